"""What the transaction that would commit an attempt is told: one row a case."""

from dataclasses import replace
from datetime import datetime, time

import pytest

from billing.calendar import ChargingWindow
from billing.dunning import (
    Allowed,
    DunningPolicy,
    ExhaustedAction,
    GiveUp,
    InvoiceHistory,
    PastAttempt,
    Permission,
    Refused,
    may_attempt,
)
from billing.dunning_terms import AttemptSource
from tests.billing.invoices import DEFAULT, HARD, SHORT, SOFT, T0, TECHNICAL, after, day, tried

PATIENT = DunningPolicy(new_card_retries_now=False)
MORNING = DunningPolicy(charging_window=ChargingWindow(time(9), time(11)))
OVER = after(SOFT, tried("final", "soft", day(7)))
BLOCKED = replace(after(HARD), method_hard_declined=True)


def allowed(source: str) -> Allowed:
    return Allowed(AttemptSource(source))


def refused(until: datetime | None) -> Refused:
    return Refused("", until)


@pytest.mark.parametrize(
    ("policy", "history", "now", "source", "expected"),
    [
        # A renewal's first attempt.
        (DEFAULT, after(), T0, "renewal", allowed("renewal")),
        # At night it waits for the charging window.
        (MORNING, after(), day(0, 12), "renewal", refused(day(0, 23))),
        # Due: whatever was asked for, the answer names what it is.
        (DEFAULT, after(SOFT), day(1), "retry", allowed("retry")),
        (DEFAULT, after(TECHNICAL), day(0, 1), "retry", allowed("technical")),
        (SHORT, after(SOFT), day(7), "retry", allowed("final")),
        (DEFAULT, after(SOFT, method="pm_2"), day(0, 1), "retry", allowed("new_card")),
        # A doorbell too early.
        (DEFAULT, after(SOFT), day(0, 23), "retry", refused(day(1))),
        # Only the customer can help.
        (DEFAULT, after(HARD), day(2), "retry", refused(day(28))),
        # Over.
        (SHORT, OVER, day(8), "retry", GiveUp(ExhaustedAction.CANCEL, "")),
        # A person may try at any time, after the end too …
        (DEFAULT, after(SOFT), day(0, 1), "manual", allowed("manual")),
        (DEFAULT, after(), T0, "manual", allowed("manual")),
        (SHORT, OVER, day(8), "manual", allowed("manual")),
        # … but not with a method that its bank blocked, and not while it is held.
        (DEFAULT, BLOCKED, day(2), "manual", refused(day(28))),
        (DEFAULT, after(SOFT, method=None), day(2), "manual", refused(day(28))),
        (DEFAULT, replace(after(SOFT), hold=True), day(2), "manual", refused(day(3))),
        # New details under the old id: at once, also after a hard decline of the old ones.
        (DEFAULT, after(HARD), day(2), "new_card", allowed("new_card")),
        (SHORT, OVER, day(8), "new_card", allowed("new_card")),
        # Unless they are blocked as well, or the policy does not want it.
        (DEFAULT, BLOCKED, day(2), "new_card", refused(day(28))),
        (PATIENT, after(SOFT), day(0, 2), "new_card", refused(day(1))),
        (PATIENT, after(SOFT), day(1), "new_card", allowed("retry")),
        (DEFAULT, replace(after(SOFT), hold=True), day(2), "new_card", refused(day(3))),
        # Before the first decline it is the renewal itself.
        (DEFAULT, after(), T0, "new_card", allowed("renewal")),
    ],
)
def test_permission(
    policy: DunningPolicy,
    history: InvoiceHistory,
    now: datetime,
    source: str,
    expected: Permission,
) -> None:
    """An attempt is committed only if it is due and legal at that very moment."""
    actual = may_attempt(policy, history, now=now, source=AttemptSource(source))
    if not isinstance(actual, Allowed):
        actual = replace(actual, reason="")
    assert actual == expected


@pytest.mark.parametrize("source", list(AttemptSource))
@pytest.mark.parametrize("state", ["sent", "unknown", "pending", "action_required", "succeeded"])
def test_a_live_attempt_blocks_every_other(state: str, source: AttemptSource) -> None:
    """While one attempt may still take the money, no other is sent, whoever asks."""
    live: PastAttempt = replace(SOFT, state=state, decline_class=None, resolved_at=None)
    actual = may_attempt(DEFAULT, after(HARD, live), now=day(9), source=source)
    assert actual == Refused(f"attempt 2 is {state}", None)


def test_a_refusal_says_why() -> None:
    """The reason is a line that an operator can read."""
    actual = may_attempt(DEFAULT, after(SOFT), now=T0, source=AttemptSource.RETRY)
    assert actual == Refused("retry 1 of 8, day 1", day(1))
