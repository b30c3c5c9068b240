"""What decline classes and payment methods do to dunning: one row a case; days count from the first decline, at 10:00 UTC."""

from dataclasses import replace
from datetime import datetime

import pytest

from billing.dunning import Decision, DunningPolicy, InvoiceHistory, decide
from tests.billing.invoices import (
    DAY_1,
    DAY_3,
    DEFAULT,
    HARD,
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

CLASSES: list[Row] = [
    # Technical: 1 h and 6 h after the first decline of the chain, then the ladder, all of it.
    (DEFAULT, after(TECHNICAL), T0, retry(day(0, 1), "technical")),
    (
        DEFAULT,
        after(TECHNICAL, tried("technical", "technical", day(0, 1, 5))),
        day(0, 1, 5),
        retry(day(0, 6), "technical"),
    ),
    (
        DEFAULT,
        after(
            TECHNICAL,
            tried("technical", "technical", day(0, 1)),
            tried("technical", "technical", day(0, 6)),
        ),
        day(0, 6),
        retry(day(1)),
    ),
    # Late for both: one technical retry now, not two.
    (DEFAULT, after(TECHNICAL), day(0, 8), retry(day(0, 8), "technical")),
    (
        DEFAULT,
        after(TECHNICAL, tried("technical", "technical", day(0, 8))),
        day(0, 8),
        retry(day(1)),
    ),
    # Late for the chain and the first step: the step.
    (DEFAULT, after(TECHNICAL), day(1, 2), retry(day(1, 2))),
    # The chain ends softly: the ladder, 20 hours later at the earliest.
    (DEFAULT, after(TECHNICAL, tried("technical", "soft", day(0, 6))), day(0, 6), retry(day(1, 2))),
    # A technical decline on a step has a chain of its own.
    (
        DEFAULT,
        after(SOFT, tried("retry", "technical", day(1))),
        day(1),
        retry(day(1, 1), "technical"),
    ),
    (
        DEFAULT,
        after(
            SOFT,
            tried("retry", "technical", day(1)),
            tried("technical", "technical", day(1, 1)),
            tried("technical", "technical", day(1, 6)),
        ),
        day(1, 6),
        retry(day(3)),
    ),
    # No chain beyond the window's end.
    (
        DunningPolicy(window_days=2),
        after(SOFT, DAY_1, tried("manual", "technical", day(1, 23, 30))),
        day(1, 23, 30),
        wait(day(2)),
    ),
    # Hard: wait for another method, and no fresh attempt with this one.
    (DEFAULT, after(HARD), T0, wait(day(28))),
    (DEFAULT, after(HARD), day(28), give_up()),
    (DEFAULT, replace(after(SOFT), method_hard_declined=True), T0, wait(day(28))),
    (DEFAULT, replace(after(SOFT), method_hard_declined=True), day(28), give_up()),
    # New data or the customer are needed: no blind retry, but the fresh attempt.
    (DEFAULT, after(tried("renewal", "fix_data", T0)), T0, wait(day(28))),
    (DEFAULT, after(tried("renewal", "fix_data", T0)), day(28), retry(day(28), "final")),
    (DEFAULT, after(tried("renewal", "customer", T0)), T0, wait(day(28))),
    (DEFAULT, after(tried("renewal", "customer", T0)), day(28), retry(day(28), "final")),
    # Nobody acted in time, so it was ended at the gateway: as if the customer were asked.
    (DEFAULT, after(tried("renewal", None, T0)), T0, wait(day(28))),
    (DEFAULT, after(SOFT, tried("retry", None, day(1))), day(4), wait(day(28))),
    # A soft decline after one that wanted the customer: the ladder goes on, days 1 and 3 are past.
    (
        DEFAULT,
        after(tried("renewal", "customer", T0), tried("manual", "soft", day(3, 1))),
        day(3, 1),
        retry(day(5)),
    ),
]

METHODS: list[Row] = [
    # Another method, never tried: at once, whatever came before, and after the window too.
    (DEFAULT, after(SOFT, method="pm_2"), day(0, 2), retry(day(0, 2), "new_card")),
    (DEFAULT, after(HARD, method="pm_2"), day(0, 2), retry(day(0, 2), "new_card")),
    (DEFAULT, after(HARD, method="pm_2"), day(40), retry(day(40), "new_card")),
    # Once: then it is the method that the ladder goes on with.
    (
        DEFAULT,
        after(HARD, tried("new_card", "soft", day(2), method="pm_2"), method="pm_2"),
        day(2),
        retry(day(3)),
    ),
    # 20 hours between tries of one method.
    (
        DEFAULT,
        after(HARD, tried("new_card", "soft", day(2, 20), method="pm_2"), method="pm_2"),
        day(2, 20),
        retry(day(3, 16)),
    ),
    # Back to the one that was tried: not a new card.
    (
        DEFAULT,
        after(SOFT, tried("new_card", "hard", day(2), method="pm_2")),
        day(2),
        retry(day(3)),
    ),
    # The policy wants no attempt at once: with the next step.
    (
        DunningPolicy(new_card_retries_now=False),
        after(SOFT, method="pm_2"),
        day(0, 2),
        retry(day(1)),
    ),
    # A method that its bank blocked already is never tried.
    (DEFAULT, replace(after(SOFT, method="pm_2"), method_hard_declined=True), T0, wait(day(28))),
    # New details under the same id make it another card.
    (
        DEFAULT,
        replace(after(HARD), method_changed_at=day(0, 5)),
        day(0, 5),
        retry(day(0, 5), "new_card"),
    ),
    (
        DEFAULT,
        replace(after(HARD, tried("new_card", "soft", day(1))), method_changed_at=day(1)),
        day(1),
        retry(day(3)),
    ),
    # No method left.
    (DEFAULT, after(SOFT, method=None), day(1), wait(day(28))),
    (DEFAULT, after(SOFT, method=None), day(28), give_up()),
    # There never was one: the window may run from the day it was due.
    (DEFAULT, after(method=None), T0, wait(day(28))),
    (DEFAULT, replace(after(method=None), first_declined_at=T0), day(5), wait(day(28))),
    (DEFAULT, replace(after(), first_declined_at=T0), day(5), retry(day(5), "new_card")),
    # A person's tries use up no step, not even one that is late.
    (
        DEFAULT,
        after(SOFT, tried("manual", "soft", day(1, 1))),
        day(1, 1),
        retry(day(1, 21)),
    ),
    (
        DEFAULT,
        after(SOFT, tried("manual", "soft", day(0, 1)), tried("manual", "soft", day(0, 2))),
        day(0, 2),
        retry(day(1)),
    ),
    # On hold: looked at again in a day, whatever else is true.
    (DEFAULT, replace(after(SOFT), hold=True), day(40), wait(day(41))),
    (DEFAULT, replace(after(), hold=True), T0, wait(day(1))),
]


@pytest.mark.parametrize(("policy", "history", "now", "expected"), CLASSES)
def test_decline_classes(
    policy: DunningPolicy, history: InvoiceHistory, now: datetime, expected: Decision
) -> None:
    """The class of the last decline says whether a retry can help."""
    check(policy, history, now, expected)


@pytest.mark.parametrize(("policy", "history", "now", "expected"), METHODS)
def test_payment_methods(
    policy: DunningPolicy, history: InvoiceHistory, now: datetime, expected: Decision
) -> None:
    """New card details are tried at once; without a usable method the invoice waits."""
    check(policy, history, now, expected)


def test_an_attempt_that_never_happened_counts_for_nothing() -> None:
    """An attempt proven never to have reached the gateway uses up no step and starts no clock."""
    absent = replace(tried("renewal", None, T0), gateway_ref=None)
    check(DEFAULT, after(absent), day(0, 2), retry(day(0, 2), "renewal"))
    absent_step = replace(tried("retry", None, day(1)), gateway_ref=None)
    check(DEFAULT, after(SOFT, absent_step), day(1, 3), retry(day(1, 3)))


@pytest.mark.parametrize(
    ("policy", "history", "now", "reason"),
    [
        (DEFAULT, after(), T0, "the first attempt is due"),
        (DEFAULT, after(SOFT), T0, "retry 1 of 8, day 1"),
        (DEFAULT, after(SOFT), day(9), "retry 4 of 8, day 8"),
        (DEFAULT, after(TECHNICAL), T0, "technical retry 1 of 2, outside the schedule"),
        (SHORT, EXHAUSTED, day(3), "no retry is left; one fresh attempt then"),
        (SHORT, EXHAUSTED, day(7), "one fresh attempt at the window's end"),
        (DEFAULT, after(HARD), T0, "the bank said never again with this method"),
        (DEFAULT, after(SOFT, method=None), T0, "no payment method may be charged"),
        (
            DEFAULT,
            after(tried("renewal", "fix_data", T0)),
            T0,
            "new card details are needed; one fresh attempt then",
        ),
        (
            DEFAULT,
            after(HARD),
            day(28),
            "the window of dunning has ended: the bank said never again with this method",
        ),
    ],
)
def test_every_decision_says_why(
    policy: DunningPolicy, history: InvoiceHistory, now: datetime, reason: str
) -> None:
    """The reason is a line that an operator can read."""
    assert decide(policy, history, now=now).reason == reason
