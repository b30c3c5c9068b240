"""What an issuer says beside its decline code: ISO 8583 response, merchant advice, a plain message.

Soft declines carry no merchant advice code unless the token asks for one (`…_mac25_…`): an advice
to wait moves a retry, and most issuers send none.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IssuerWords:
    """ISO 8583 field 39, Mastercard's merchant advice code if any, and the message."""

    network_code: str
    advice_code: str | None
    message: str


DECLINES: dict[str, IssuerWords] = {
    "insufficient_funds": IssuerWords("51", None, "The account has insufficient funds."),
    "do_not_honor": IssuerWords("05", None, "The issuer declined without a reason."),
    "generic_decline": IssuerWords("05", None, "The issuer declined without a reason."),
    "try_again_later": IssuerWords("19", None, "The issuer asks to try again later."),
    "issuer_not_available": IssuerWords("91", None, "The issuer could not be reached."),
    "processing_error": IssuerWords("96", None, "An error occurred while processing."),
    "expired_card": IssuerWords("54", "01", "The card has expired."),
    "incorrect_cvc": IssuerWords("N7", "01", "The security code is wrong."),
    "lost_card": IssuerWords("41", "03", "The card was reported lost."),
    "stolen_card": IssuerWords("43", "03", "The card was reported stolen."),
    "pickup_card": IssuerWords("04", "03", "The card may not be used."),
    "fraudulent": IssuerWords("07", "03", "The issuer suspects fraud."),
    "invalid_account": IssuerWords("46", "03", "The account is closed."),
    "invalid_number": IssuerWords("14", "03", "There is no such card."),
    "revocation_of_authorization": IssuerWords("R1", "21", "The payer revoked the authorisation."),
    "stop_payment_order": IssuerWords("R0", "21", "The payer stopped this payment."),
    "authentication_required": IssuerWords("1A", "04", "The payer must authenticate."),
    "card_velocity_exceeded": IssuerWords("61", None, "The card is over its limit."),
    "transaction_not_allowed": IssuerWords("57", "03", "The card allows no such payment."),
    "restricted_card": IssuerWords("62", None, "The card is restricted."),
    "withdrawal_count_limit_exceeded": IssuerWords("65", None, "The card was used too often."),
}
"""Every `decline.code` of the contract."""
