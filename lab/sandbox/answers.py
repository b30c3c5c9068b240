"""What the gateway answers, and what may happen to an answer on its way."""

from typing import NamedTuple

from pydantic_core import to_json

from lab.sandbox.faults import Damage, Effect, FaultDraws
from lab.sandbox.records import Json

_ERROR_TYPES = {
    400: "invalid_request",
    401: "unauthorized",
    404: "not_found",
    409: "idempotency_key_in_use",
    429: "rate_limited",
}
_ERROR_MESSAGES = {
    400: "the request is not valid",
    401: "the key is not known",
    404: "there is no such thing",
    409: "a request with this key is under way",
    429: "too many requests, nothing was done",
    500: "something went wrong at the gateway",
    502: "the processor behind the gateway gave no valid answer",
    503: "the gateway is not available",
}


class Answer(NamedTuple):
    """One HTTP answer, `delay_s` after its request."""

    status: int
    body: bytes
    delay_s: float = 0.0
    replayed: bool = False
    damage: Damage = Damage.NONE
    retry_after_s: int | None = None
    drip_bytes_per_s: float = 1.0


class Refused(Exception):  # noqa: N818  (an answer of the contract, not a failure of the server)
    """The request is answered with this error and changes nothing."""

    def __init__(self, status: int, kind: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.answer = Answer(status, error_body(kind, message, field))


def spoil(answer: Answer, effect: Effect, draws: FaultDraws) -> Answer:
    """The answer as it goes onto the wire."""
    if effect.damage is Damage.NONE:
        return answer
    drip_bytes_per_s = draws.settings.drip_bytes_per_s
    return answer._replace(damage=effect.damage, drip_bytes_per_s=drip_bytes_per_s)


def unreached(effect: Effect, draws: FaultDraws, delay_s: float) -> Answer:
    """The answer to a request that the key store never saw."""
    if effect.status == 200:
        return spoil(Answer(200, b"", delay_s), effect, draws)
    retry_after_s = draws.settings.retry_after_s if effect.status == 429 else None
    body = server_error_body(effect.status)
    return Answer(effect.status, body, delay_s, retry_after_s=retry_after_s)


def server_error_body(status: int) -> bytes:
    """The body of an injected error: the same every time, so that a replay repeats it to the byte."""
    return error_body(_ERROR_TYPES.get(status, "server_error"), _ERROR_MESSAGES[status])


def error_body(kind: str, message: str, field: str | None = None) -> bytes:
    """`{error: {type, message, field?}}`."""
    error: Json = {"type": kind, "message": message}
    if field is not None:
        error["field"] = field
    return to_json({"error": error})


def invalid(field: str, message: str) -> Refused:
    """400 that names the field."""
    return Refused(400, "invalid_request", f"{field}: {message}", field)


def not_found(what: str) -> Refused:
    """404."""
    return Refused(404, "not_found", f"no such {what}")
