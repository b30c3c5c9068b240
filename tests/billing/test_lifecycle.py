"""The state machines: what is legal stands in one table, and what is not is refused."""

from collections.abc import Mapping
from enum import StrEnum
from itertools import product
from typing import Any

import pytest

from billing.lifecycle import (
    ATTEMPT_TRANSITIONS,
    ENDED_SUBSCRIPTIONS,
    INVOICE_TRANSITIONS,
    LIVE_ATTEMPTS,
    NOTICE_TRANSITIONS,
    REJECTED_TRANSITIONS,
    SUBSCRIPTION_TRANSITIONS,
    UNSETTLED_ATTEMPTS,
    AttemptState,
    IllegalTransitionError,
    InvoiceStatus,
    NoticeState,
    RejectedState,
    SubscriptionStatus,
    assert_legal,
)
from tests.billing.rows import ATT, INV, SUB, attempt, case, invoice, moved, subscription

MACHINES: dict[type[StrEnum], tuple[Mapping[Any, frozenset[Any]], str]] = {
    SubscriptionStatus: (
        SUBSCRIPTION_TRANSITIONS,
        """
        pending: active expired canceled
        trialing: active past_due canceled paused
        active: past_due paused canceled expired
        past_due: active unpaid paused canceled
        unpaid: active paused canceled
        paused: active canceled
        """,
    ),
    InvoiceStatus: (
        INVOICE_TRANSITIONS,
        """
        open: paid uncollectible void
        uncollectible: paid
        void: paid
        """,
    ),
    AttemptState: (
        ATTEMPT_TRANSITIONS,
        """
        sent: succeeded declined unknown pending action_required
        unknown: succeeded declined void pending action_required
        pending: succeeded declined void
        action_required: succeeded declined void pending
        void: succeeded
        """,
    ),
    NoticeState: (
        NOTICE_TRANSITIONS,
        """
        scheduled: sending dropped
        sending: sent failed scheduled
        """,
    ),
    RejectedState: (
        REJECTED_TRANSITIONS,
        """
        waiting: applied rejected refused
        rejected: applied waiting refused
        refused: applied waiting rejected
        """,
    ),
}


@pytest.mark.parametrize("machine", MACHINES)
def test_every_move_is_legal_or_refused(machine: type[StrEnum]) -> None:
    """The moves are those of the rules, and each of all others raises."""
    table, rules = MACHINES[machine]
    lines = [line.split(":") for line in rules.strip().splitlines()]
    legal = {(before.strip(), after) for before, afters in lines for after in afters.split()}
    assert table.keys() == set(machine)
    for before, after in product(machine, machine):
        if (before, after) in legal:
            assert_legal(table, before, after)
        else:
            with pytest.raises(IllegalTransitionError, match=f"{before} -> {after}"):
                assert_legal(table, before, after)


def test_money_that_moved_is_never_unmoved() -> None:
    """Nothing leads away from paid and succeeded, nor back from an end."""
    assert INVOICE_TRANSITIONS[INV.PAID] == frozenset()
    assert ATTEMPT_TRANSITIONS[ATT.SUCCEEDED] == frozenset()
    assert ATTEMPT_TRANSITIONS[ATT.DECLINED] == frozenset()
    assert {SUBSCRIPTION_TRANSITIONS[ended] for ended in ENDED_SUBSCRIPTIONS} == {frozenset()}


def test_live_attempts_are_those_that_may_have_taken_money() -> None:
    """All but a proven no; the unsettled ones are those of them without a final word."""
    assert set(ATT) - LIVE_ATTEMPTS == {ATT.DECLINED, ATT.VOID}
    assert {ATT.SUCCEEDED} == LIVE_ATTEMPTS - UNSETTLED_ATTEMPTS


def test_a_case_notes_its_moves_in_order() -> None:
    """Each with its machine and subject; staying where one is is no move."""
    at_hand = attempt()
    made = case(subscription(SUB.PAST_DUE), invoice(), at_hand)
    made.move_attempt(at_hand, ATT.SUCCEEDED, "approved")
    made.move_attempt(at_hand, ATT.SUCCEEDED, "approved")
    made.move_invoice(INV.PAID, "approved")
    made.move_subscription(SUB.ACTIVE, "approved")
    made.move_subscription(SUB.ACTIVE, "approved")
    assert moved(made) == [
        "attempt: sent -> succeeded",
        "invoice: open -> paid",
        "subscription: past_due -> active",
    ]
    assert [move.subject for move in made.moves] == [
        "00000000-0000-0000-0000-000000000001:1",
        "00000000-0000-0000-0000-000000000001",
        "sub_1",
    ]


def test_a_case_refuses_an_illegal_move_and_changes_nothing() -> None:
    """A bug raises before anything is written down."""
    made = case(subscription(SUB.CANCELED), invoice(INV.PAID), attempt(ATT.DECLINED))
    with pytest.raises(IllegalTransitionError):
        made.move_subscription(SUB.ACTIVE, "late money")
    with pytest.raises(IllegalTransitionError):
        made.move_invoice(INV.VOID, "canceled")
    assert made.attempt is not None
    with pytest.raises(IllegalTransitionError):
        made.move_attempt(made.attempt, ATT.SUCCEEDED, "late money")
    assert moved(made) == []
    assert (made.subscription.status, made.invoice.status) == (SUB.CANCELED, INV.PAID)
