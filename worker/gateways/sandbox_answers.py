"""The answers of a gateway that speaks docs/contract/sandbox-gateway.md, read into outcomes.

Classes (source: docs/design.md, outcome classes): a 200 is what it says; 400, 401, 403, 404, 413 and 422
mean "documented as not executed"; everything else is unknown. A replayed 5xx will never change.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from billing.declines import classify
from billing.outcomes import (
    ActionRequired,
    Approved,
    Canceled,
    ChargeOutcome,
    Declined,
    Pending,
    Refused,
    Unknown,
)
from worker.gateways.gateway import LedgerCharge

NOT_EXECUTED = frozenset({400, 401, 403, 404, 413, 422})

MAX_ID = 255
"""Characters of a charge's id: it is indexed, and one that is longer would break its whole batch."""

MAX_REST = 3600
"""Seconds: a gateway that asks for more is asked again after an hour."""


class AnswerError(Exception):
    """The body is not what the contract says: what happened is unknown."""


def charge_outcome(status: int, headers: Mapping[str, str], body: bytes) -> ChargeOutcome:
    if status == 200:
        return found(parse_object(body))
    kind = _error_type(body)
    told = f"{status} {kind or 'without an error type'}"
    if status in NOT_EXECUTED:
        return Refused(told)
    replayed = headers.get("Idempotent-Replayed") == "true"
    # 409 and 429 say nothing of what became of the first request with this key, and a 5xx that is
    # not in the gateway's words is a proxy's: the request may still be on its way behind it.
    answered = status >= 500 and kind is not None
    return Unknown(
        told,
        answered=answered,
        replayed=replayed and answered,
        retry_after_seconds=_retry_after(headers),
    )


def found(charge: Mapping[str, Any]) -> Approved | Declined | Pending | ActionRequired | Canceled:
    try:
        ref, status = charge["id"], charge["status"]
        if not isinstance(ref, str) or not 0 < len(ref) <= MAX_ID or not ref.isprintable():
            raise AnswerError("id is no short text")
        match status:
            case "succeeded":
                amount = charge["amount_minor"]
                if isinstance(amount, bool) or not isinstance(amount, int):
                    raise AnswerError("amount_minor is no integer")
                return Approved(ref, amount, charge["currency"])
            case "declined":
                return _declined(ref, charge["decline"])
            case "pending":
                return Pending(ref, charge.get("action"))
            case "requires_action":
                return ActionRequired(ref, charge["action"])
            case "canceled":
                return Canceled(ref)
            case _:
                raise AnswerError(f"unknown status {status!r}"[:80])
    except (KeyError, TypeError, AttributeError) as error:
        raise AnswerError(f"a charge without {error}") from error


def _declined(ref: str, decline: Mapping[str, Any]) -> Declined:
    code = str(decline["code"])
    network_code, advice_code = decline.get("network_code"), decline.get("advice_code")
    decline_class = classify(
        gateway="sandbox", code=code, network_code=network_code, advice_code=advice_code
    )
    message = str(decline.get("message") or "")
    return Declined(ref, code, decline_class, network_code, advice_code, message)


def ledger_charge(charge: Mapping[str, Any]) -> LedgerCharge:
    try:
        return LedgerCharge(
            gateway_ref=charge["id"],
            idempotency_key=charge["idempotency_key"],
            reference=charge["reference"],
            status=charge["status"],
            amount_minor=charge["amount_minor"],
            currency=charge["currency"],
            amount_refunded_minor=charge.get("amount_refunded_minor") or 0,
            created_at=datetime.fromisoformat(charge["created_at"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise AnswerError(f"a charge without {error}") from error


def parse_object(body: bytes) -> Mapping[str, Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise AnswerError("a body that is not JSON") from error
    if not isinstance(answer, dict):
        raise AnswerError("a body that is no object")
    return answer


def _error_type(body: bytes) -> str | None:
    try:
        error = parse_object(body)["error"]
        return str(error.get("type", ""))[:60] if isinstance(error, dict) else str(error)[:60]
    except (AnswerError, KeyError):
        return None


def _retry_after(headers: Mapping[str, str]) -> int | None:
    value = headers.get("Retry-After", "")
    if not value.isdecimal():
        return None
    return min(int(value), MAX_REST) if len(value) < 10 else MAX_REST
