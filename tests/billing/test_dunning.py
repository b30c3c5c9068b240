"""When an unpaid invoice is tried again, and when no more: one row a case; days count from the first decline, at 10:00 UTC."""

from dataclasses import replace
from datetime import datetime, time

import pytest

from billing.calendar import ChargingWindow
from billing.dunning import Decision, DunningPolicy, ExhaustedAction, InvoiceHistory, decide
from tests.billing.invoices import (
    DAY_1,
    DAY_3,
    DEFAULT,
    SHORT,
    SOFT,
    T0,
    TECHNICAL,
    Row,
    after,
    check,
    day,
    give_up,
    retry,
    tried,
    wait,
)

EXHAUSTED = after(SOFT, DAY_1, DAY_3)
MORNING = DunningPolicy(charging_window=ChargingWindow(time(9), time(11)))

LADDER: list[Row] = [
    # Nothing tried yet: now.
    (DEFAULT, after(), T0, retry(T0, "renewal")),
    # Each step counts from the first decline, not from the last.
    (DEFAULT, after(SOFT), T0, retry(day(1))),
    (DEFAULT, after(SOFT, DAY_1), day(1), retry(day(3))),
    (DEFAULT, after(SOFT, DAY_1, DAY_3), day(3), retry(day(5))),
    # The instant itself, and a little late.
    (DEFAULT, after(SOFT), day(1), retry(day(1))),
    (DEFAULT, after(SOFT), day(1, 2), retry(day(1, 2))),
    # A late attempt does not shift the next step.
    (DEFAULT, after(SOFT, tried("retry", "soft", day(1, 2))), day(1, 2), retry(day(3))),
    # Nine days of downtime: one retry now, then the schedule goes on.
    (DEFAULT, after(SOFT), day(9), retry(day(9))),
    (DEFAULT, after(SOFT, tried("retry", "soft", day(9))), day(9), retry(day(11))),
    # Downtime up to just before a step: the gap of 20 hours keeps them apart.
    (DEFAULT, after(SOFT, tried("retry", "soft", day(2, 20))), day(2, 20), retry(day(3, 16))),
    # The order of the attempts given does not matter, their ordinals do.
    (DEFAULT, replace(EXHAUSTED, attempts=EXHAUSTED.attempts[::-1]), day(3), retry(day(5))),
    # A decline learnt late starts the clock when it is learnt.
    (DEFAULT, after(tried("renewal", "soft", day(-4), resolved_at=T0)), T0, retry(day(1))),
    # A step whose outcome came days later: what passed meanwhile could not have been tried.
    (
        DEFAULT,
        after(SOFT, tried("retry", "soft", day(1), resolved_at=day(6))),
        day(6),
        retry(day(8)),
    ),
    # An unsorted schedule with a day told twice.
    (DunningPolicy(schedule=(4, 2, 2)), after(SOFT), T0, retry(day(2))),
    # The dunning clock that the caller keeps beats the attempts.
    (DEFAULT, replace(after(SOFT), first_declined_at=day(-1)), T0, retry(day(2))),
]

END: list[Row] = [
    # Cut to max_retries: no third step, but the fresh attempt on day 7.
    (SHORT, EXHAUSTED, day(3), wait(day(7))),
    (SHORT, EXHAUSTED, day(7), retry(day(7), "final")),
    (SHORT, EXHAUSTED, day(9), retry(day(9), "final")),
    (SHORT, after(SOFT, DAY_1, DAY_3, tried("final", "soft", day(7))), day(7), give_up()),
    # Cut to the window: a step on its last day is the fresh attempt.
    (DunningPolicy(window_days=3), after(SOFT, DAY_1), day(1), wait(day(3))),
    (DunningPolicy(window_days=3), after(SOFT, DAY_1), day(3), retry(day(3), "final")),
    # No retries at all: still the fresh attempt.
    (DunningPolicy(max_retries=0), after(SOFT), T0, wait(day(28))),
    # Downtime to beyond the window: the fresh attempt at once, no retry.
    (SHORT, after(SOFT), day(30), retry(day(30), "final")),
    # The last step was late: the fresh attempt keeps its 20 hours.
    (SHORT, after(SOFT, tried("retry", "soft", day(6, 20))), day(6, 20), wait(day(7, 16))),
    # A person tried at the window's end: the fresh attempt is still to come.
    (
        SHORT,
        after(SOFT, tried("manual", "soft", day(7))),
        day(7),
        retry(day(7, 20), "final"),
    ),
    # A new card was tried after the window's end: that was the fresh attempt.
    (SHORT, after(SOFT, tried("new_card", "soft", day(7, 1))), day(7, 2), give_up()),
    # A technical decline of the fresh attempt has no chain.
    (SHORT, after(SOFT, tried("final", "technical", day(7))), day(7), give_up()),
    # What the policy says.
    (
        replace(SHORT, on_exhausted=ExhaustedAction.PAUSE),
        after(SOFT, tried("final", "soft", day(7))),
        day(7),
        give_up("pause"),
    ),
]

WINDOW: list[Row] = [
    # 10:00 is inside 09:00 to 11:00; two hours later is not.
    (MORNING, after(), T0, retry(T0, "renewal")),
    (MORNING, after(), day(0, 2), retry(day(0, 23), "renewal")),
    # Steps keep their own time if it is inside, else wait for the opening.
    (MORNING, after(SOFT), T0, retry(day(1))),
    (MORNING, after(tried("renewal", "soft", day(0, 10))), day(0, 10), retry(day(1, 23))),
    # Downtime ends at night.
    (MORNING, after(SOFT), day(1, 12), retry(day(1, 23))),
    # In the customer's zone: 09:00 in New York is 14:00 UTC, and 13:00 from 8 March.
    (MORNING, replace(after(SOFT), zone="America/New_York"), T0, retry(day(1, 4))),
    (
        MORNING,
        replace(after(SOFT, DAY_1, DAY_3), zone="America/New_York"),
        day(5, 12),
        retry(day(6, 3)),
    ),
    # The fresh attempt waits for it as well.
    (
        replace(MORNING, window_days=1),
        after(tried("renewal", "soft", day(0, 10))),
        day(1, 10),
        retry(day(1, 23), "final"),
    ),
    # The technical retry: an hour later is inside for a decline at 09:30 only.
    (MORNING, after(tried("renewal", "technical", day(0, -1))), T0, retry(T0, "technical")),
    (MORNING, after(TECHNICAL), T0, retry(day(0, 23), "technical")),
    # A new card is tried while its owner waits.
    (MORNING, after(SOFT, method="pm_2"), day(0, 12), retry(day(0, 12), "new_card")),
]


@pytest.mark.parametrize(("policy", "history", "now", "expected"), LADDER)
def test_the_schedule(
    policy: DunningPolicy, history: InvoiceHistory, now: datetime, expected: Decision
) -> None:
    """Soft declines are retried on the schedule's days; what was missed is not made up for."""
    check(policy, history, now, expected)


@pytest.mark.parametrize(("policy", "history", "now", "expected"), END)
def test_the_end(
    policy: DunningPolicy, history: InvoiceHistory, now: datetime, expected: Decision
) -> None:
    """With no retry left the invoice waits; at the window's end one fresh attempt, then the policy."""
    check(policy, history, now, expected)


@pytest.mark.parametrize(("policy", "history", "now", "expected"), WINDOW)
def test_the_charging_window(
    policy: DunningPolicy, history: InvoiceHistory, now: datetime, expected: Decision
) -> None:
    """Automatic attempts wait for the charging window in the customer's local time."""
    check(policy, history, now, expected)


@pytest.mark.parametrize("state", ["sent", "unknown", "pending", "action_required", "succeeded"])
def test_deciding_over_a_live_attempt_is_a_bug(state: str) -> None:
    """Nothing may be decided while an attempt may still take the money."""
    live = replace(SOFT, state=state, decline_class=None, resolved_at=None)
    with pytest.raises(AssertionError, match="an attempt is live"):
        decide(DEFAULT, after(live), now=T0)
