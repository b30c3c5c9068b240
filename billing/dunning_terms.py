"""The words of dunning as values: policy, what was attempted, what to do next.

The policy is the contract's `retry_policy`. `billing/dunning.py` decides with these.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from enum import StrEnum
from typing import Any

from billing.calendar import ChargingWindow
from billing.lifecycle import AttemptState
from billing.outcomes import DeclineClass


class ExhaustedAction(StrEnum):
    """What becomes of a subscription whose dunning ended without money."""

    CANCEL = "cancel"
    UNPAID = "unpaid"
    PAUSE = "pause"
    PAST_DUE = "past_due"


@dataclass(frozen=True, slots=True)
class DunningPolicy:
    """How an unpaid invoice is collected; days are 24 hours, counted from the first decline.

    `grace_days` (None: as long as the window) says only when access ends. `learned` keeps that the
    platform asked for a learned schedule: there is no model to rank instants with yet, so the ladder
    stands in, which a learned schedule would never be later than.
    """

    max_retries: int = 8
    window_days: int = 28
    schedule: tuple[int, ...] = (1, 3, 5, 8, 11, 15, 20, 26)
    on_exhausted: ExhaustedAction = ExhaustedAction.CANCEL
    grace_days: int | None = None
    billing_date_follows_recovery: bool = False
    new_card_retries_now: bool = True
    action_days: int = 3
    charging_window: ChargingWindow | None = None
    learned: bool = False

    @property
    def retry_days(self) -> tuple[int, ...]:
        """The schedule in order, cut to `max_retries` and to days before the window's end.

        A retry on the last day itself is the fresh attempt that the window ends with.
        """
        inside = sorted({day for day in self.schedule if day < self.window_days})
        return tuple(inside[: self.max_retries])

    @classmethod
    def from_contract(cls, policy: Mapping[str, Any]) -> "DunningPolicy":
        """The policy of a validated `retry_policy`; what it leaves out has its default."""
        told = {name: policy[name] for name in _PLAIN_FIELDS if policy.get(name) is not None}
        schedule = policy.get("schedule")
        if schedule == "learned":
            told["learned"] = True
        elif schedule is not None:
            told["schedule"] = tuple(schedule)
        if (action := policy.get("on_exhausted")) is not None:
            told["on_exhausted"] = ExhaustedAction(action)
        if (window := policy.get("charging_window")) is not None:
            told["charging_window"] = ChargingWindow(
                time.fromisoformat(window["from"]), time.fromisoformat(window["to"])
            )
        return cls(**told)

    def to_contract(self) -> dict[str, Any]:
        """The `retry_policy` that `from_contract` reads back to the same policy, ready for JSON."""
        told: dict[str, Any] = {name: getattr(self, name) for name in _PLAIN_FIELDS}
        told["schedule"] = "learned" if self.learned else list(self.schedule)
        told["on_exhausted"] = str(self.on_exhausted)
        if (window := self.charging_window) is not None:
            told["charging_window"] = {
                "from": window.start.isoformat("minutes"),
                "to": window.end.isoformat("minutes"),
            }
        return {name: value for name, value in told.items() if value is not None}


_PLAIN_FIELDS = (
    "max_retries",
    "window_days",
    "grace_days",
    "billing_date_follows_recovery",
    "new_card_retries_now",
    "action_days",
)


def dunning_window_ends_at(policy: DunningPolicy, first_declined_at: datetime) -> datetime:
    """When dunning ends if nobody paid or canceled before."""
    return first_declined_at + timedelta(days=policy.window_days)


def grace_ends_at(policy: DunningPolicy, first_declined_at: datetime) -> datetime | None:
    """When access ends while retries go on; None if access lasts as long as dunning does."""
    if policy.grace_days is None or policy.grace_days >= policy.window_days:
        return None
    return first_declined_at + timedelta(days=policy.grace_days)


class AttemptSource(StrEnum):
    """Why an attempt was made. Only `RETRY` uses up a day of the schedule."""

    RENEWAL = "renewal"
    RETRY = "retry"
    TECHNICAL = "technical"
    FINAL = "final"
    NEW_CARD = "new_card"
    MANUAL = "manual"


@dataclass(frozen=True, slots=True)
class PastAttempt:
    """One attempt of the invoice; `resolved_at` is None while its outcome is not known.

    A void attempt with a `gateway_ref` was ended at the gateway because nobody acted: the customer has
    to. One without was proven never to have happened, and counts for nothing.
    """

    ordinal: int
    source: AttemptSource
    state: str
    decline_class: DeclineClass | None
    payment_method_id: str
    claimed_at: datetime
    resolved_at: datetime | None
    gateway_ref: str | None = None

    @property
    def failed(self) -> bool:
        voided = self.state == AttemptState.VOID and self.gateway_ref is not None
        return voided or self.state == AttemptState.DECLINED

    @property
    def failed_at(self) -> datetime:
        return self.resolved_at or self.claimed_at


@dataclass(frozen=True, slots=True)
class InvoiceHistory:
    """What is known of an invoice when its next step is decided.

    `first_declined_at` starts the dunning clock; None: the first failed attempt does. It may be set
    without an attempt, when there was no method to try. `zone` is the customer's. The rest is about the
    method that would be charged next (None: there is none): did its bank say never again, when were
    its details last changed under the same id. `hold`: somebody wants nothing to happen.
    """

    first_declined_at: datetime | None
    attempts: Sequence[PastAttempt]
    zone: str
    payment_method_id: str | None
    method_hard_declined: bool = False
    hold: bool = False
    method_changed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RetryAt:
    """Attempt at `at` (never in the past) as `source`."""

    at: datetime
    source: AttemptSource
    reason: str


@dataclass(frozen=True, slots=True)
class WaitForCustomer:
    """Attempt nothing of our own accord; decide again at `until`, or when the customer acts."""

    until: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Dunning ended without money: do `action` (a subscription never paid for expires instead)."""

    action: ExhaustedAction
    reason: str


@dataclass(frozen=True, slots=True)
class Allowed:
    """An attempt may be committed now, and is to be recorded as `source`."""

    source: AttemptSource


@dataclass(frozen=True, slots=True)
class Refused:
    """No attempt now. Ask again at `until`; None: when the live attempt is settled."""

    reason: str
    until: datetime | None = None


Decision = RetryAt | WaitForCustomer | GiveUp
Permission = Allowed | Refused | GiveUp
