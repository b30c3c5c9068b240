"""What happens next to an invoice that was not paid: one pure decision over its attempts.

The life of an unpaid invoice:

1. Its first decline starts the clock; a day of the schedule is 24 hours after that instant.
2. A technical decline is tried again 1 h and 6 h after it, outside the schedule.
3. A soft decline is retried on the schedule's days; a day that passed during downtime is not made up.
4. A hard one, one that wants new card details, or one that wants the customer is not retried: the
   invoice waits for them. New card details are tried at once, whatever came before.
5. With no retry left the invoice waits as well. At the window's end there is one fresh attempt, if
   legal, and then the policy's `on_exhausted`.

Nothing here is counted or stored: the position is read off the attempts every time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

from billing.calendar import into_window
from billing.dunning_terms import (
    Allowed,
    AttemptSource,
    Decision,
    DunningPolicy,
    ExhaustedAction,
    GiveUp,
    InvoiceHistory,
    PastAttempt,
    Permission,
    Refused,
    RetryAt,
    WaitForCustomer,
    dunning_window_ends_at,
    grace_ends_at,
)
from billing.lifecycle import LIVE_ATTEMPTS
from billing.outcomes import DeclineClass

__all__ = [
    "Allowed",
    "AttemptSource",
    "Decision",
    "DunningPolicy",
    "ExhaustedAction",
    "GiveUp",
    "InvoiceHistory",
    "PastAttempt",
    "Permission",
    "Refused",
    "RetryAt",
    "WaitForCustomer",
    "decide",
    "dunning_window_ends_at",
    "grace_ends_at",
    "may_attempt",
]

TECHNICAL_DELAYS = (timedelta(hours=1), timedelta(hours=6))
"""After the first technical decline of a chain: outages last minutes to hours."""

MIN_GAP = timedelta(hours=20)
"""Between retries on one method unless the decline was technical; stricter than any scheme's rule."""

HOLD_CHECK = timedelta(days=1)
"""A held invoice is looked at again after this long, so that a forgotten wake-up costs a day."""


_RETRIABLE = frozenset({DeclineClass.SOFT, DeclineClass.TECHNICAL})


def decide(policy: DunningPolicy, history: InvoiceHistory, *, now: datetime) -> Decision:
    """The next step of an unpaid invoice; none of its attempts may be live (an assertion).

    Never before `now`; no retry at or after the window's end but the one fresh attempt; at most
    `max_retries` retries of the schedule, at least `MIN_GAP` after a decline of the same method that
    was not technical. Time that was missed leads to one retry, not to several.
    """
    assert not any(a.state in LIVE_ATTEMPTS for a in history.attempts), "an attempt is live"
    position = _Position(policy, history, now)
    started_at = position.started_at
    if history.hold:
        return WaitForCustomer(now + HOLD_CHECK, "the invoice is on hold")
    if started_at is None:
        return position.first_attempt()
    if position.usable and policy.new_card_retries_now and not position.on_card:
        return RetryAt(now, AttemptSource.NEW_CARD, "new card details are tried at once")
    waits_for = position.waits_for
    if waits_for is None and (retry := position.next_retry(started_at)) is not None:
        return retry
    return position.close(started_at, waits_for or "no retry is left")


def may_attempt(
    policy: DunningPolicy, history: InvoiceHistory, *, now: datetime, source: AttemptSource
) -> Permission:
    """Whether an attempt for a due invoice may be committed at `now`, and as what.

    `source` says who asks. `MANUAL` (a person) and `NEW_CARD` (details that came since the last
    attempt) are free of the schedule, not of live attempts, holds and hard declines. For all others
    `decide` says what is due, whichever of them was asked for.
    """
    for attempt in history.attempts:
        if attempt.state in LIVE_ATTEMPTS:
            return Refused(f"attempt {attempt.ordinal} is {attempt.state}")
    position = _Position(policy, history, now)
    free = position.usable and not history.hold
    match source:
        case AttemptSource.MANUAL if free:
            return Allowed(source)
        case AttemptSource.NEW_CARD if free and policy.new_card_retries_now:
            # Before the first decline it is the renewal itself, whatever rang.
            return Allowed(source if position.started_at else AttemptSource.RENEWAL)
        case _:
            return _permission(decide(policy, history, now=now), now)


def _permission(decision: Decision, now: datetime) -> Permission:
    match decision:
        case RetryAt(at, source, reason):
            return Allowed(source) if at <= now else Refused(reason, at)
        case WaitForCustomer(until, reason):
            return Refused(reason, until)
        case GiveUp():
            return decision
        case _:
            assert_never(decision)


@dataclass(frozen=True, slots=True)
class _Position:
    """Where an invoice stands in its dunning, read off its attempts."""

    policy: DunningPolicy
    history: InvoiceHistory
    now: datetime

    @property
    def failed(self) -> list[PastAttempt]:
        return sorted((a for a in self.history.attempts if a.failed), key=lambda a: a.ordinal)

    @property
    def on_card(self) -> list[PastAttempt]:
        """The failed attempts on the method that would be charged next, with its present details."""
        method, changed_at = self.history.payment_method_id, self.history.method_changed_at
        return [
            a
            for a in self.failed
            if a.payment_method_id == method and (changed_at is None or a.claimed_at >= changed_at)
        ]

    @property
    def started_at(self) -> datetime | None:
        """The first failure, None before it."""
        if self.history.first_declined_at is not None:
            return self.history.first_declined_at
        return min((a.failed_at for a in self.failed), default=None)

    @property
    def usable(self) -> bool:
        """Whether there is a method that may be charged at all."""
        return self.history.payment_method_id is not None and not self.history.method_hard_declined

    @property
    def waits_for(self) -> str | None:
        """Why only the customer can help, None if a retry can."""
        if not self.usable:
            return "no payment method may be charged"
        if not self.on_card:
            return None
        match self.on_card[-1].decline_class:
            case DeclineClass.HARD:
                return "the bank said never again with this method"
            case DeclineClass.FIX_DATA:
                return "new card details are needed"
            case DeclineClass.CUSTOMER | None:
                return "the customer has to confirm the payment"
            case DeclineClass.SOFT | DeclineClass.TECHNICAL:
                return None
            case unknown:
                assert_never(unknown)

    def first_attempt(self) -> Decision:
        """What the policy says of an invoice that nobody has tried to charge yet."""
        if not self.usable:
            until = dunning_window_ends_at(self.policy, self.now)
            return WaitForCustomer(until, "no payment method may be charged")
        return RetryAt(self.opening(self.now), AttemptSource.RENEWAL, "the first attempt is due")

    def next_retry(self, started_at: datetime) -> RetryAt | None:
        """The next retry inside the window: the technical one if it comes before the schedule's."""
        retries = [*self.scheduled_retry(started_at), *self.technical_retry()]
        retry = min(retries, key=lambda retry: retry.at, default=None)
        if retry is None or retry.at >= dunning_window_ends_at(self.policy, started_at):
            return None
        return retry

    def scheduled_retry(self, started_at: datetime) -> list[RetryAt]:
        """The next day of the schedule."""
        days = self.policy.retry_days
        steps = [started_at + timedelta(days=day) for day in days]
        if (i := self.next_step(steps, after=self.steps_done_until(started_at))) is None:
            return []
        at = self.opening(max(steps[i], self.now, self.gap_ends_at))
        return [RetryAt(at, AttemptSource.RETRY, f"retry {i + 1} of {len(days)}, day {days[i]}")]

    def steps_done_until(self, started_at: datetime) -> datetime:
        """Steps up to here are used up, or passed while no retry would have been legal.

        What a person asks for uses up no step, but ends a wait that steps may have passed in.
        """
        ends = [started_at]
        waiting = True
        for attempt in self.failed:
            if waiting or attempt.source is not AttemptSource.MANUAL:
                ends.append(attempt.failed_at)
            waiting = attempt.decline_class not in _RETRIABLE
        return max(ends)

    def technical_retry(self) -> list[RetryAt]:
        """The next retry of a chain: an attempt that failed technically, and its technical retries."""
        on_card = self.on_card
        if not on_card or on_card[-1].decline_class is not DeclineClass.TECHNICAL:
            return []
        base = max(
            (i for i, a in enumerate(on_card) if a.source is not AttemptSource.TECHNICAL), default=0
        )
        steps = [on_card[base].failed_at + delay for delay in TECHNICAL_DELAYS]
        if (i := self.next_step(steps, after=on_card[-1].claimed_at)) is None:
            return []
        at = self.opening(max(steps[i], self.now))
        reason = f"technical retry {i + 1} of {len(steps)}, outside the schedule"
        return [RetryAt(at, AttemptSource.TECHNICAL, reason)]

    def next_step(self, steps: Sequence[datetime], *, after: datetime) -> int | None:
        """The first step after an instant, or the newest of several that have passed meanwhile."""
        left = [i for i, step in enumerate(steps) if step > after]
        passed = [i for i in left if steps[i] <= self.now]
        return passed[-1] if passed else next(iter(left), None)

    @property
    def gap_ends_at(self) -> datetime:
        """When the minimum gap after declines of this method is over; technical ones ask for none."""
        asking = (a for a in self.on_card if a.decline_class is not DeclineClass.TECHNICAL)
        return max((a.failed_at + MIN_GAP for a in asking), default=self.now)

    def opening(self, at: datetime) -> datetime:
        """`at`, moved into the charging window if the policy has one."""
        if (window := self.policy.charging_window) is None:
            return at
        return into_window(at, zone=self.history.zone, window=window)

    def close(self, started_at: datetime, reason: str) -> Decision:
        """What is left once no retry is: one fresh attempt at the window's end, if legal."""
        ends_at = dunning_window_ends_at(self.policy, started_at)
        if self.fresh_attempt_is_left(ends_at):
            at = self.opening(max(ends_at, self.now, self.gap_ends_at))
            if self.now < ends_at:
                return WaitForCustomer(at, f"{reason}; one fresh attempt then")
            return RetryAt(at, AttemptSource.FINAL, "one fresh attempt at the window's end")
        if self.now < ends_at:
            return WaitForCustomer(ends_at, reason)
        return GiveUp(self.policy.on_exhausted, f"the window of dunning has ended: {reason}")

    def fresh_attempt_is_left(self, ends_at: datetime) -> bool:
        """Legal with this method and not yet made; what a person asks for does not count as it."""
        made = any(
            a.source is AttemptSource.FINAL
            or (a.source is not AttemptSource.MANUAL and a.claimed_at >= ends_at)
            for a in self.failed
        )
        refused = any(a.decline_class is DeclineClass.HARD for a in self.on_card[-1:])
        return self.usable and not refused and not made
