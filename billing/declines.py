"""Decline code → class, as tables: what may legally be done comes before what may help.

The gateway's own code is decisive; the code of the card network (ISO 8583 or Visa) and Mastercard's
merchant advice code (MAC) can make the class stricter, never milder. Sources: Visa's decline code
categories (category 1: never again), Mastercard's merchant advice codes, Stripe's decline codes.
"""

from collections.abc import Mapping

from billing.outcomes import DeclineClass

_HARD = DeclineClass.HARD
_FIX_DATA = DeclineClass.FIX_DATA
_CUSTOMER = DeclineClass.CUSTOMER
_SOFT = DeclineClass.SOFT
_TECHNICAL = DeclineClass.TECHNICAL


def _table(**codes: str) -> Mapping[str, DeclineClass]:
    return {code: DeclineClass(name) for name, words in codes.items() for code in words.split()}


CARD_CODES = _table(
    hard="lost_card stolen_card pickup_card fraudulent invalid_account invalid_number "
    "revocation_of_authorization revocation_of_all_authorizations stop_payment_order "
    "transaction_not_allowed highest_risk_level",
    fix_data="expired_card incorrect_cvc invalid_cvc incorrect_number invalid_expiry_month "
    "invalid_expiry_year",
    customer="authentication_required",
    soft="insufficient_funds do_not_honor generic_decline card_velocity_exceeded call_issuer "
    "restricted_card withdrawal_count_limit_exceeded",
    technical="issuer_not_available processing_error try_again_later reenter_transaction",
)
"""Stripe's words, which the sandbox gateway speaks as well."""

GATEWAY_CODES: Mapping[str, Mapping[str, DeclineClass]] = {"sandbox": CARD_CODES}
"""The codes of each gateway that has words of its own; the others are read by `CARD_CODES`."""

NETWORK_CODES = _table(
    hard="04 07 12 14 15 41 43 46 57 R0 R1 R3",
    fix_data="54 55 82 6P N7",
    customer="1A 65",
    soft="05 51 61 62",
    technical="91 96",
)
ADVICE_CODES = _table(
    hard="03 21",
    fix_data="01",
    customer="04",
    soft="02 24 25 26 27 28 29 30",
)

STOP_NETWORK_CODES = frozenset({"R0", "R1", "R3"})
STOP_ADVICE_CODES = frozenset({"21"})
STOP_CODES = frozenset(
    {"revocation_of_authorization", "revocation_of_all_authorizations", "stop_payment_order"}
)
STOP_ORDERS = STOP_NETWORK_CODES | STOP_ADVICE_CODES | STOP_CODES
"""The customer withdrew consent: the schedule stops and the platform is told. See `is_stop_order`."""

_STRICTER = (_HARD, _FIX_DATA, _CUSTOMER)
"""What a network or advice code may turn a decline into, strictest first."""


def classify(
    *, gateway: str, code: str, network_code: str | None = None, advice_code: str | None = None
) -> DeclineClass:
    """The strictest class that any of the three codes calls for; unlisted codes are soft."""
    own = GATEWAY_CODES.get(gateway, CARD_CODES).get(code, _SOFT)
    told = {own, NETWORK_CODES.get(network_code or ""), ADVICE_CODES.get(advice_code or "")}
    return next((strict for strict in _STRICTER if strict in told), own)


def is_listed(*, gateway: str, code: str) -> bool:
    """Whether the table knows the gateway's code; a counter names those it does not, to let it grow."""
    return code in GATEWAY_CODES.get(gateway, CARD_CODES)


def is_stop_order(
    *, code: str, network_code: str | None = None, advice_code: str | None = None
) -> bool:
    """Whether the decline says that the customer withdrew consent (each code in its own field)."""
    return (
        code in STOP_CODES or network_code in STOP_NETWORK_CODES or advice_code in STOP_ADVICE_CODES
    )


_ANY_REASON = "Your bank declined the payment."
_PAYER_REASONS: Mapping[str, str] = {
    "insufficient_funds": "There was not enough money available for the payment.",
    "expired_card": "The card has expired.",
    "incorrect_cvc": "The security code of the card is not right.",
    "invalid_cvc": "The security code of the card is not right.",
    "incorrect_number": "The card number is not right.",
    "invalid_number": "The card number is not right.",
    "invalid_expiry_month": "The expiry date of the card is not right.",
    "invalid_expiry_year": "The expiry date of the card is not right.",
    "invalid_account": "The account of the card cannot be charged any more.",
    "authentication_required": "Your bank asks you to confirm the payment yourself.",
    "card_velocity_exceeded": "The limit of the card was reached.",
    "withdrawal_count_limit_exceeded": "The limit of the card was reached.",
    "transaction_not_allowed": "The card does not allow this kind of payment.",
    "revocation_of_authorization": "Your bank says that you stopped this payment.",
    "revocation_of_all_authorizations": "Your bank says that you stopped this payment.",
    "stop_payment_order": "Your bank says that you stopped this payment.",
    "issuer_not_available": "Your bank could not be reached.",
    "processing_error": "The payment could not be processed just then.",
    "try_again_later": "The payment could not be processed just then.",
    "reenter_transaction": "The payment could not be processed just then.",
}


def payer_reason(code: str) -> str:
    """One English sentence for the payer. Lost, stolen, pick-up and risk read like any other decline.

    Whoever holds a stolen card must not learn that it is known as stolen (Visa and Mastercard rules).
    """
    return _PAYER_REASONS.get(code, _ANY_REASON)
