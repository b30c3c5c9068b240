"""What becomes of a platform message, and what messages name: the words of the intake."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from billing.lifecycle import RejectedState


class Kind(StrEnum):
    """What a message may name; `PAYMENT` is an attempt, by gateway and key or gateway's id."""

    SELLER = "seller"
    PLAN = "plan"
    CUSTOMER = "customer"
    METHOD = "payment_method"
    SUBSCRIPTION = "subscription"
    INVOICE = "invoice"
    PAYMENT = "payment"


class Ref(NamedTuple):
    """One thing by its id; its text is what `rejected_event.waits_for` holds."""

    kind: Kind
    id: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}"


class Result(StrEnum):
    """What `inbox_event.result` says; the last is for metrics, a duplicate leaves no row."""

    APPLIED = "applied"
    SUPERSEDED = "superseded"
    WAITING = "waiting"
    REJECTED = "rejected"
    REFUSED = "refused"
    DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True)
class Applied:
    """It has its effect; `brings` is what was not known before."""

    brings: Ref | None = None


@dataclass(frozen=True, slots=True)
class Superseded:
    """A newer message of its group was there first."""


@dataclass(frozen=True, slots=True)
class Missing:
    """It waits until `ref` is known, which its `field` names."""

    ref: Ref
    field: str


@dataclass(frozen=True, slots=True)
class Refused:
    """It has no effect, for good: rejected by the contract or refused by a rule (LIFECYCLE 30)."""

    field: str
    error: str
    state: RejectedState = RejectedState.REFUSED


Verdict = Applied | Superseded | Missing | Refused
