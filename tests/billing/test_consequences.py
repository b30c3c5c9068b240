"""What follows for an invoice and its subscription: paid, past due, given up, ended."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from billing import consequences
from billing.dunning import ExhaustedAction, GiveUp, RetryAt, WaitForCustomer
from billing.dunning_terms import AttemptSource
from billing.facts import Case
from billing.lifecycle import CancelOrigin
from billing.outcomes import DeclineClass
from tests.billing.rows import (
    ATT,
    BEFORE,
    INV,
    NEXT,
    NOW,
    SUB,
    assert_storable,
    attempt,
    case,
    in_dunning,
    invoice,
    moved,
    subscription,
    told,
)

DAY = timedelta(days=1)
TOMORROW = NOW + DAY
PAID = "invoice: open -> paid"


@pytest.mark.parametrize(
    ("status", "dunning", "moves", "messages"),
    [
        (SUB.PENDING, False, ["pending -> active"], ["activated"]),
        (SUB.PENDING, True, ["pending -> active"], ["activated"]),
        (SUB.TRIALING, False, ["trialing -> active"], ["renewed"]),
        (SUB.ACTIVE, False, [], ["renewed"]),
        (SUB.ACTIVE, True, [], ["recovered", "renewed"]),
        (SUB.PAST_DUE, True, ["past_due -> active"], ["recovered", "renewed"]),
        (SUB.UNPAID, True, ["unpaid -> active"], ["recovered", "renewed"]),
        # Paid all the same, and nothing revives.
        (SUB.PAUSED, True, [], []),
        (SUB.CANCELED, True, [], []),
        (SUB.EXPIRED, False, [], []),
    ],
)
def test_what_a_payment_leads_to(
    status: SUB, moves: list[str], messages: list[str], *, dunning: bool
) -> None:
    """By the status that it finds: one row each."""
    made = case(subscription(status), in_dunning() if dunning else invoice())
    consequences.pay(made, "approved")
    assert moved(made) == [PAID, *(f"subscription: {move}" for move in moves)]
    assert told(made) == ["invoice.paid", *(f"subscription.{kind}" for kind in messages)]
    alive = status not in (SUB.PAUSED, SUB.CANCELED, SUB.EXPIRED)
    assert made.subscription.next_renewal_at == (NEXT if alive else None)
    paid_until = made.subscription.current_period_end
    assert paid_until == (NOW if status in (SUB.CANCELED, SUB.EXPIRED) else NEXT)
    assert_storable(made)


def test_a_recovery_tells_how_many_attempts_it_took() -> None:
    """The one that succeeded and those before it."""
    before = [consequences.past_attempt(attempt(ATT.DECLINED, ordinal=n)) for n in (1, 2)]
    made = case(subscription(SUB.PAST_DUE), in_dunning(recovered_by="new_card"), history=before)
    consequences.pay(made, "approved")
    fields = made.messages[1].fields
    assert (fields["attempts"], fields["recovered_by"]) == (3, "new_card")


def test_the_paid_period_never_moves_backwards() -> None:
    """An older invoice that is paid late takes no time away."""
    made = case(subscription(current_period_start=NEXT, current_period_end=NEXT + 31 * DAY))
    consequences.pay(made, "approved")
    row = made.subscription
    assert (row.current_period_start, row.current_period_end) == (NEXT, NEXT + 31 * DAY)


def test_a_renewal_is_announced_when_its_date_is_known() -> None:
    """The reminders of the plan, for the segments of the customer, at their days."""
    reminders = [{"days_before": 7}, {"days_before": 3, "segment": "annual"}]
    made = case(subscription(reminders=reminders, segments=["monthly"]))
    consequences.pay(made, "approved")
    assert [draft.send_at for draft in made.notices] == [NEXT - 7 * DAY]


def fail(made: Case) -> Case:
    """A final decline of the invoice at hand."""
    made.history = [consequences.past_attempt(attempt(ATT.DECLINED))]
    consequences.fail(made, decline_class=DeclineClass.SOFT, code="do_not_honor", ordinal=1)
    assert_storable(made)
    return made


@pytest.mark.parametrize(
    ("status", "settings", "moves", "messages"),
    [
        (SUB.ACTIVE, {}, ["active -> past_due"], ["past_due"]),
        (SUB.TRIALING, {}, ["trialing -> past_due"], ["past_due"]),
        (SUB.ACTIVE, {"while_past_due": "bill"}, ["active -> past_due"], ["past_due"]),
        # A first period that was never paid stays pending; others are where they are.
        (SUB.PENDING, {}, [], []),
        (SUB.PAST_DUE, {}, [], []),
        (SUB.UNPAID, {}, [], []),
        (SUB.PAUSED, {}, [], []),
    ],
)
def test_what_a_first_decline_leads_to(
    status: SUB, settings: dict[str, Any], moves: list[str], messages: list[str]
) -> None:
    """Dunning begins now, with the plan's policy of this moment, and everybody is told once."""
    made = fail(case(subscription(status, **settings)))
    assert moved(made) == [f"subscription: {move}" for move in moves]
    assert told(made) == ["payment.failed", *(f"subscription.{kind}" for kind in messages)]
    bill = made.invoice
    assert (bill.first_declined_at, bill.dunning_ends_at) == (NOW, NOW + 28 * DAY)
    assert (bill.attempt_due_at, bill.attempt_source) == (TOMORROW, "retry")
    assert [draft.kind for draft in made.notices] == ["payment_failed"]
    bills_on = settings.get("while_past_due") == "bill"
    assert (made.subscription.next_renewal_at is not None) is bills_on


def test_a_later_decline_tells_the_platform_only() -> None:
    """The dunning goes on where it stands: no second mail, no second past due."""
    made = fail(case(subscription(SUB.PAST_DUE), in_dunning()))
    assert told(made) == ["payment.failed"]
    assert (made.notices, moved(made)) == ([], [])
    assert made.invoice.first_declined_at == NOW - DAY


def test_a_decline_after_another_invoice_was_paid_is_past_due_again() -> None:
    """`bill`: active for one period, failing for another; grace counts from the first decline."""
    policy = {"grace_days": 3}
    row = subscription(while_past_due="bill", retry_policy=policy)
    made = fail(case(row, in_dunning(retry_policy=policy)))
    assert moved(made) == ["subscription: active -> past_due"]
    assert row.access_ends_at == NOW + 2 * DAY


@pytest.mark.parametrize(
    ("policy", "ends_at"),
    [
        ({}, None),
        ({"grace_days": 28}, None),
        ({"grace_days": 0}, NOW),
        ({"grace_days": 5}, NOW + 5 * DAY),
    ],
)
def test_grace_ends_with_the_policy(policy: dict[str, Any], ends_at: datetime | None) -> None:
    """None while access lasts as long as dunning does."""
    made = fail(case(subscription(retry_policy=policy)))
    assert made.subscription.access_ends_at == ends_at


def test_a_wish_from_meanwhile_comes_before_the_schedule() -> None:
    """Somebody asked while another attempt was under way: theirs is next, and at once."""
    made = fail(case(bill=invoice(requested_source="new_card")))
    assert (made.invoice.attempt_due_at, made.invoice.attempt_source) == (NOW, "new_card")
    assert made.messages[0].fields["next_retry_at"] == NOW


@pytest.mark.parametrize(
    ("changes", "at_hand", "blocked"),
    [
        ({}, attempt(), True),
        ({"payment_method_id": "pm_2"}, attempt(), False),
        ({"method_changed_at": NOW + DAY}, attempt(), False),
        ({"method_changed_at": NOW - DAY}, attempt(), True),
        ({"payment_method_id": "pm_2", "method_hard_declined_at": NOW}, attempt(), True),
        ({}, None, False),
    ],
)
def test_a_hard_decline_blocks_the_card_it_was_about(
    changes: dict[str, Any], at_hand: Any, *, blocked: bool
) -> None:
    """Not another one that came meanwhile, nor the same one with new details."""
    made = case(subscription(**changes), None, at_hand, hard_decline_code="stolen_card")
    assert consequences.history_of(made).method_hard_declined is blocked


@pytest.mark.parametrize(
    ("status", "action", "bill", "moves", "messages"),
    [
        (
            SUB.PAST_DUE,
            "cancel",
            INV.UNCOLLECTIBLE,
            "canceled",
            ["invoice.uncollectible", "canceled"],
        ),
        (
            SUB.UNPAID,
            "cancel",
            INV.UNCOLLECTIBLE,
            "canceled",
            ["invoice.uncollectible", "canceled"],
        ),
        (SUB.PAST_DUE, "pause", INV.UNCOLLECTIBLE, "paused", ["invoice.uncollectible", "paused"]),
        (SUB.UNPAID, "pause", INV.UNCOLLECTIBLE, "paused", ["invoice.uncollectible", "paused"]),
        (SUB.PAUSED, "pause", INV.UNCOLLECTIBLE, None, ["invoice.uncollectible"]),
        (SUB.PAST_DUE, "unpaid", INV.OPEN, "unpaid", ["unpaid"]),
        (SUB.UNPAID, "unpaid", INV.OPEN, None, []),
        (SUB.PAST_DUE, "past_due", INV.OPEN, None, []),
        # Active, because another of its invoices was paid (`bill`).
        (
            SUB.ACTIVE,
            "cancel",
            INV.UNCOLLECTIBLE,
            "canceled",
            ["invoice.uncollectible", "canceled"],
        ),
        (SUB.ACTIVE, "unpaid", INV.OPEN, "unpaid", ["unpaid"]),
        (SUB.ACTIVE, "past_due", INV.OPEN, "past_due", []),
        # Never paid: it expires, whatever the policy says.
        (SUB.PENDING, "unpaid", INV.UNCOLLECTIBLE, "expired", ["invoice.uncollectible", "expired"]),
    ],
)
def test_how_dunning_ends_without_money(
    status: SUB, action: str, bill: INV, moves: str | None, messages: list[str]
) -> None:
    """By the policy's `on_exhausted` and where the subscription stands: one row each."""
    owner = subscription(status, access_ends_at=TOMORROW if status is SUB.PAST_DUE else None)
    made = case(owner, in_dunning(attempt_due_at=NOW, attempt_source="final"))
    consequences.follow(made, GiveUp(ExhaustedAction(action), "nobody paid"))
    assert made.invoice.status is bill
    assert made.subscription.status == (moves or status)
    kinds = [kind if "." in kind else f"subscription.{kind}" for kind in messages]
    assert told(made) == kinds
    assert (made.invoice.attempt_due_at, made.subscription.next_renewal_at) == (None, None)
    # An open invoice says why nothing is due on it; a closed one has nothing to say.
    assert made.invoice.hold_reason == ("nobody paid" if bill is INV.OPEN else None)
    assert_storable(made)


def test_who_is_ended_by_dunning_left_involuntarily() -> None:
    """Origin and reason stand in the row and in the message."""
    made = case(subscription(SUB.PAST_DUE), in_dunning())
    consequences.follow(made, GiveUp(ExhaustedAction.CANCEL, "nobody paid"))
    row = made.subscription
    assert (row.cancel_origin, row.cancel_reason) == (CancelOrigin.INVOLUNTARY, "nobody paid")
    assert made.messages[-1].fields == {"origin": "involuntary", "reason": "nobody paid"}
    assert made.drop_notices == "nobody paid"


def test_a_decision_becomes_the_next_attempt() -> None:
    """A retry has its instant and source; a wait has the instant of its fresh attempt, and why."""
    made = case(bill=in_dunning(hold_reason="waiting"))
    consequences.follow(made, RetryAt(TOMORROW, AttemptSource.TECHNICAL, ""))
    bill = made.invoice
    assert (bill.attempt_due_at, bill.attempt_source, bill.hold_reason) == (
        TOMORROW,
        "technical",
        None,
    )
    consequences.follow(made, WaitForCustomer(NEXT, "the card is dead"))
    assert (bill.attempt_due_at, bill.attempt_source) == (NEXT, "final")
    assert bill.hold_reason == "the card is dead"


def test_lapsing_twice_is_told_once() -> None:
    """Access ends once, whoever comes second."""
    made = case(subscription(SUB.PAST_DUE, access_ends_at=NOW), in_dunning())
    consequences.lapse(made, "grace")
    consequences.lapse(made, "grace")
    assert (moved(made), told(made)) == (
        ["subscription: past_due -> unpaid"],
        ["subscription.unpaid"],
    )
    assert_storable(made)


def test_the_next_period_starts_where_the_anchor_says() -> None:
    """A pure function of the anchor and the number of the period, even far in the past."""
    assert consequences.next_renewal(subscription(next_period=1)) == NEXT
    assert consequences.next_renewal(subscription(next_period=0)) == NOW
    assert consequences.next_renewal(subscription(next_period=0)) > BEFORE
