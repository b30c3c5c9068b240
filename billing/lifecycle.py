"""The state machines of renewd, as data: the only place where a status is spelled.

Each machine is one enum and one table of legal moves; `schema.sql` repeats the enums as CHECKs (a test
compares the two) and the worker moves a row only through `assert_legal`. Source of the tables:
the life-cycle rules in docs/design.md (states, and the two paragraphs under them).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

T = TypeVar("T", bound=StrEnum)


class SubscriptionStatus(StrEnum):
    """Where a subscription stands; `CANCELED` and `EXPIRED` are final."""

    PENDING = "pending"
    TRIALING = "trialing"
    ACTIVE = "active"
    PAST_DUE = "past_due"
    UNPAID = "unpaid"
    PAUSED = "paused"
    CANCELED = "canceled"
    EXPIRED = "expired"


class InvoiceStatus(StrEnum):
    """Where an invoice stands; late money alone moves `UNCOLLECTIBLE` and `VOID` to `PAID`."""

    OPEN = "open"
    PAID = "paid"
    UNCOLLECTIBLE = "uncollectible"
    VOID = "void"


class AttemptState(StrEnum):
    """What is known of one request to a gateway. A row exists before anything is sent.

    `SENT` says: perhaps on the wire, perhaps not. Only the same key or a look-up may move it.
    """

    SENT = "sent"
    UNKNOWN = "unknown"
    PENDING = "pending"
    ACTION_REQUIRED = "action_required"
    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    VOID = "void"


class NoticeState(StrEnum):
    """The life of one mail: written when its cause is known, sent at most once."""

    SCHEDULED = "scheduled"
    SENDING = "sending"
    SENT = "sent"
    DROPPED = "dropped"
    FAILED = "failed"


class RejectedState(StrEnum):
    """Why a platform message has no effect (yet)."""

    WAITING = "waiting"
    REJECTED = "rejected"
    REFUSED = "refused"
    APPLIED = "applied"


class CancelOrigin(StrEnum):
    """Who ended a subscription; `INVOLUNTARY` means that its retries ended without money."""

    CUSTOMER = "customer"
    SELLER = "seller"
    ADMIN = "admin"
    INVOLUNTARY = "involuntary"


_S = SubscriptionStatus
_I = InvoiceStatus
_A = AttemptState
_N = NoticeState
_R = RejectedState

SUBSCRIPTION_TRANSITIONS: Mapping[_S, frozenset[_S]] = {
    _S.PENDING: frozenset({_S.ACTIVE, _S.EXPIRED, _S.CANCELED}),
    _S.TRIALING: frozenset({_S.ACTIVE, _S.PAST_DUE, _S.CANCELED, _S.PAUSED}),
    _S.ACTIVE: frozenset({_S.PAST_DUE, _S.PAUSED, _S.CANCELED, _S.EXPIRED}),
    _S.PAST_DUE: frozenset({_S.ACTIVE, _S.UNPAID, _S.PAUSED, _S.CANCELED}),
    _S.UNPAID: frozenset({_S.ACTIVE, _S.PAUSED, _S.CANCELED}),
    _S.PAUSED: frozenset({_S.ACTIVE, _S.CANCELED}),
    _S.CANCELED: frozenset(),
    _S.EXPIRED: frozenset(),
}
INVOICE_TRANSITIONS: Mapping[_I, frozenset[_I]] = {
    _I.OPEN: frozenset({_I.PAID, _I.UNCOLLECTIBLE, _I.VOID}),
    _I.PAID: frozenset(),
    _I.UNCOLLECTIBLE: frozenset({_I.PAID}),
    _I.VOID: frozenset({_I.PAID}),
}
_RESOLVED = frozenset({_A.SUCCEEDED, _A.DECLINED, _A.VOID})
ATTEMPT_TRANSITIONS: Mapping[_A, frozenset[_A]] = {
    _A.SENT: frozenset({_A.SUCCEEDED, _A.DECLINED, _A.UNKNOWN, _A.PENDING, _A.ACTION_REQUIRED}),
    _A.UNKNOWN: _RESOLVED | {_A.PENDING, _A.ACTION_REQUIRED},
    _A.PENDING: _RESOLVED,
    _A.ACTION_REQUIRED: _RESOLVED | {_A.PENDING},
    _A.SUCCEEDED: frozenset(),
    _A.DECLINED: frozenset(),
    _A.VOID: frozenset({_A.SUCCEEDED}),
}
NOTICE_TRANSITIONS: Mapping[_N, frozenset[_N]] = {
    _N.SCHEDULED: frozenset({_N.SENDING, _N.DROPPED}),
    _N.SENDING: frozenset({_N.SENT, _N.FAILED, _N.SCHEDULED}),
    _N.SENT: frozenset(),
    _N.DROPPED: frozenset(),
    _N.FAILED: frozenset(),
}
REJECTED_TRANSITIONS: Mapping[_R, frozenset[_R]] = {
    _R.WAITING: frozenset({_R.APPLIED, _R.REJECTED, _R.REFUSED}),
    _R.REJECTED: frozenset({_R.APPLIED, _R.WAITING, _R.REFUSED}),
    _R.REFUSED: frozenset({_R.APPLIED, _R.WAITING, _R.REJECTED}),
    _R.APPLIED: frozenset(),
}

LIVE_ATTEMPTS = frozenset(AttemptState) - {AttemptState.DECLINED, AttemptState.VOID}
"""At most one attempt of an invoice is in one of these states (a partial unique index says so)."""

UNSETTLED_ATTEMPTS = LIVE_ATTEMPTS - {AttemptState.SUCCEEDED}
"""Attempts whose outcome is not known yet: nothing else may be sent for their invoice."""

ENDED_SUBSCRIPTIONS = frozenset({SubscriptionStatus.CANCELED, SubscriptionStatus.EXPIRED})
RENEWING_SUBSCRIPTIONS = frozenset(
    {SubscriptionStatus.PENDING, SubscriptionStatus.TRIALING, SubscriptionStatus.ACTIVE}
)
"""States in which a due period is invoiced without further questions."""


@dataclass(frozen=True, slots=True)
class Move:
    """One move of a `subscription`, an `invoice` (its id) or an `attempt` (`invoice_id:ordinal`)."""

    subscription_id: str
    machine: str
    subject: str
    before: str
    after: str
    reason: str


class IllegalTransitionError(AssertionError):
    """A move that no table allows: a bug, never a business case."""


def assert_legal(table: Mapping[T, frozenset[T]], before: T, after: T) -> None:
    """Raise `IllegalTransitionError` unless `table` allows `before → after`."""
    if after not in table[before]:
        machine = type(before).__name__
        raise IllegalTransitionError(f"{machine}: {before} -> {after} is not a legal move")
