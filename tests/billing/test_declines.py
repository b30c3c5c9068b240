from collections.abc import Mapping
from typing import get_args

import pytest

from billing import outcomes
from billing.declines import (
    ADVICE_CODES,
    CARD_CODES,
    NETWORK_CODES,
    STOP_ORDERS,
    classify,
    is_listed,
    is_stop_order,
    payer_reason,
)
from billing.outcomes import ChargeOutcome, DeclineClass, LookupOutcome, Outcome

SANDBOX_CODES = [
    "insufficient_funds",
    "do_not_honor",
    "generic_decline",
    "try_again_later",
    "issuer_not_available",
    "processing_error",
    "expired_card",
    "incorrect_cvc",
    "lost_card",
    "stolen_card",
    "pickup_card",
    "fraudulent",
    "invalid_account",
    "invalid_number",
    "revocation_of_authorization",
    "stop_payment_order",
    "authentication_required",
    "card_velocity_exceeded",
    "transaction_not_allowed",
    "restricted_card",
    "withdrawal_count_limit_exceeded",
]


@pytest.mark.parametrize(
    ("code", "network_code", "advice_code", "expected"),
    [
        # The gateway's own word, alone.
        ("lost_card", None, None, "hard"),
        ("stop_payment_order", None, None, "hard"),
        ("expired_card", None, None, "fix_data"),
        ("authentication_required", None, None, "customer"),
        ("insufficient_funds", None, None, "soft"),
        ("try_again_later", None, None, "technical"),
        # A word nobody knows is soft, and so is no word.
        ("the_moon_is_full", None, None, "soft"),
        ("", None, None, "soft"),
        # The network's code makes it stricter.
        ("do_not_honor", "43", None, "hard"),
        ("generic_decline", "54", None, "fix_data"),
        ("generic_decline", "1A", None, "customer"),
        ("processing_error", "R1", None, "hard"),
        ("the_moon_is_full", "14", None, "hard"),
        # The advice code as well.
        ("insufficient_funds", None, "03", "hard"),
        ("do_not_honor", "05", "21", "hard"),
        ("do_not_honor", "05", "01", "fix_data"),
        ("do_not_honor", "05", "04", "customer"),
        # The strictest of three.
        ("authentication_required", "54", "03", "hard"),
        ("authentication_required", "54", "02", "fix_data"),
        # Never milder than the gateway says.
        ("lost_card", "51", "24", "hard"),
        ("expired_card", "91", None, "fix_data"),
        # Between soft and technical the gateway's own word counts.
        ("insufficient_funds", "91", None, "soft"),
        ("processing_error", "05", "02", "technical"),
        # Codes of no table say nothing.
        ("insufficient_funds", "99", "99", "soft"),
    ],
)
def test_classify(
    code: str, network_code: str | None, advice_code: str | None, expected: str
) -> None:
    """The strictest of the three codes decides what may legally follow."""
    actual = classify(
        gateway="sandbox", code=code, network_code=network_code, advice_code=advice_code
    )
    assert actual == DeclineClass(expected)


def test_a_gateway_without_a_table_of_its_own_speaks_the_common_words() -> None:
    """A new gateway's decline is classed before anybody wrote its table."""
    assert classify(gateway="brand_new", code="stolen_card") is DeclineClass.HARD
    assert is_listed(gateway="brand_new", code="stolen_card")


@pytest.mark.parametrize("code", SANDBOX_CODES)
def test_every_code_of_the_sandbox_is_listed(code: str) -> None:
    """The contract's codes are all in the table."""
    assert is_listed(gateway="sandbox", code=code)


def test_an_unlisted_code_is_told_apart() -> None:
    """A counter can name the codes that the table lacks."""
    assert not is_listed(gateway="sandbox", code="the_moon_is_full")


@pytest.mark.parametrize(
    ("table", "code", "expected"),
    [
        (NETWORK_CODES, "04 07 12 14 15 41 43 46 57 R0 R1 R3", "hard"),
        (NETWORK_CODES, "54 55 82 6P N7", "fix_data"),
        (NETWORK_CODES, "1A 65", "customer"),
        (NETWORK_CODES, "05 51 61 62", "soft"),
        (NETWORK_CODES, "91 96", "technical"),
        (ADVICE_CODES, "03 21", "hard"),
        (ADVICE_CODES, "01", "fix_data"),
        (ADVICE_CODES, "04", "customer"),
        (ADVICE_CODES, "02 24 25 26 27 28 29 30", "soft"),
    ],
)
def test_scheme_codes(table: Mapping[str, DeclineClass], code: str, expected: str) -> None:
    """Visa's and Mastercard's codes are in the class that their rules put them in."""
    assert {table[one] for one in code.split()} == {DeclineClass(expected)}


@pytest.mark.parametrize(
    ("code", "network_code", "advice_code", "expected"),
    [
        ("do_not_honor", "R0", None, True),
        ("do_not_honor", "R3", None, True),
        ("do_not_honor", None, "21", True),
        ("revocation_of_authorization", None, None, True),
        ("do_not_honor", "21", None, False),  # ISO 21 is not Mastercard's advice 21
        ("lost_card", "41", "03", False),  # hard, but nobody withdrew anything
    ],
)
def test_stop_orders(
    code: str,
    network_code: str | None,
    advice_code: str | None,
    expected: bool,  # noqa: FBT001 (a column of the table)
) -> None:
    """The customer's withdrawal of consent is told from other hard declines."""
    actual = is_stop_order(code=code, network_code=network_code, advice_code=advice_code)
    assert actual == expected


def test_every_stop_order_is_hard() -> None:
    """What withdraws consent also ends the use of the method."""
    tables = {**NETWORK_CODES, **ADVICE_CODES, **CARD_CODES}
    assert {tables[code] for code in STOP_ORDERS} == {DeclineClass.HARD}


@pytest.mark.parametrize(
    "code",
    ["lost_card", "stolen_card", "pickup_card", "fraudulent", "highest_risk_level", "unheard_of"],
)
def test_the_payer_is_never_told_of_theft_or_risk(code: str) -> None:
    """Lost, stolen, pick-up and risk read like a plain decline."""
    assert payer_reason(code) == payer_reason("generic_decline")


@pytest.mark.parametrize("code", [*CARD_CODES, "unheard_of"])
def test_payer_reasons_are_safe_sentences(code: str) -> None:
    """Each reason is one sentence, without the code and without a word that gives something away."""
    reason = payer_reason(code)
    assert reason.endswith(".")
    assert "_" not in reason
    assert not {"lost", "stolen", "pick", "fraud", "risk"} & set(reason.lower().split())


def test_a_common_reason_helps_the_payer() -> None:
    """Who can do something about a decline learns what."""
    assert payer_reason("expired_card") == "The card has expired."


def test_the_unions_hold_every_outcome() -> None:
    """No outcome class is left out, so `assert_never` covers them all; "not found" is judged first."""
    classes = {
        value
        for value in vars(outcomes).values()
        if isinstance(value, type) and value.__module__ == outcomes.__name__
    }
    settled, told = set(get_args(Outcome)), {*get_args(ChargeOutcome), *get_args(LookupOutcome)}
    assert settled | told == classes - {DeclineClass}
    assert told - settled == {outcomes.NotFound}
