"""What the sandbox keeps: charges, refunds, keys, and what is still to come."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from lab.sandbox.codes import DECLINES

Json = dict[str, Any]
Text = Annotated[str, Field(min_length=1, max_length=255)]
AmountMinor = Annotated[int, Field(gt=0, lt=2**63)]


class ChargeStatus(StrEnum):
    """The statuses of the contract."""

    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    PENDING = "pending"
    REQUIRES_ACTION = "requires_action"
    CANCELED = "canceled"


OPEN_STATUSES = (ChargeStatus.PENDING, ChargeStatus.REQUIRES_ACTION)


class Metadata(TypedDict):
    """What renewd says of its own about a charge; more may be said."""

    __pydantic_config__ = ConfigDict(extra="allow", strict=True)  # type: ignore[misc]  # pydantic's

    invoice_id: Text
    attempt: int | Text


@dataclass(slots=True)
class ChargeOrder:
    """A body of POST /v1/charges; orders.py checks it against these types, with no field more."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    amount_minor: AmountMinor
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    payment_method: Text
    customer: Text
    reference: Text
    off_session: Literal[True]
    metadata: Metadata
    statement_descriptor: Text | None = None


@dataclass(slots=True)
class RefundOrder:
    """A body of POST /v1/refunds, checked likewise."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    charge: Text
    amount_minor: AmountMinor


Order = ChargeOrder | RefundOrder


@dataclass(slots=True)
class Charge:
    """One executed charge.

    `settles_to` (`ok`, a code, or None: canceled) and `due_at` tell how and when an open one ends.
    """

    id: str
    number: int
    order: ChargeOrder
    idempotency_key: str
    created_at: datetime
    status: ChargeStatus = ChargeStatus.PENDING
    first_status: ChargeStatus = ChargeStatus.PENDING
    decline: Json | None = None
    settles_to: str | None = None
    due_at: datetime | None = None
    action_expires_at: datetime | None = None
    amount_refunded_minor: int = 0

    def answer(self) -> Json:
        """The charge as it is now, in the contract's shape."""
        return self._shape(self.status, self.decline, self.amount_refunded_minor)

    def first_answer(self) -> Json:
        """The charge as its POST answered it: what a replay repeats."""
        decline = self.decline if self.first_status is ChargeStatus.DECLINED else None
        return self._shape(self.first_status, decline, 0)

    def _shape(self, status: ChargeStatus, decline: Json | None, refunded_minor: int) -> Json:
        shape: Json = {
            "id": self.id,
            "status": status.value,  # an enum would cost as much as the rest
            "amount_minor": self.order.amount_minor,
            "currency": self.order.currency,
            "reference": self.order.reference,
            "idempotency_key": self.idempotency_key,
            "created_at": rfc3339(self.created_at),
            "amount_refunded_minor": refunded_minor,
            "disputed": False,
        }
        if decline is not None:
            shape["decline"] = decline
        if status is ChargeStatus.REQUIRES_ACTION and self.action_expires_at is not None:
            shape["action"] = self._action(self.action_expires_at)
        return shape

    def _action(self, expires_at: datetime) -> Json:
        return {
            "type": "redirect",
            "url": f"https://sandbox.invalid/actions/{self.id}",
            "code": None,
            "expires_at": rfc3339(expires_at),
        }


@dataclass(slots=True)
class Refund:
    """One executed refund."""

    id: str
    number: int
    order: RefundOrder
    idempotency_key: str
    created_at: datetime

    def answer(self) -> Json:
        """The refund in the contract's shape; refunds of the sandbox succeed at once."""
        return {
            "id": self.id,
            "charge": self.order.charge,
            "status": "succeeded",
            "amount_minor": self.order.amount_minor,
            "idempotency_key": self.idempotency_key,
            "created_at": rfc3339(self.created_at),
        }

    def first_answer(self) -> Json:
        """What its POST answered: a refund never changes."""
        return self.answer()


@dataclass(slots=True)
class KeyRecord:
    """What is stored under an idempotency key: `made` answers 200, else the 5xx `status` does."""

    body_hash: str
    first_used_at: datetime
    status: int
    made: Charge | Refund | None
    busy_until: float = 0.0  # machine time (monotonic) at which the first answer leaves


@dataclass(frozen=True, slots=True)
class Settlement:
    """An open charge comes to its end."""

    charge_id: str


@dataclass(frozen=True, slots=True)
class LateRequest:
    """A request that was held up on its way. `answered`: a stored 500 was given for it already."""

    id: str
    order: Order
    idempotency_key: str
    body_hash: str
    answered: bool


def decline_json(code: str, advice_code: str | None = None) -> Json:
    """`decline` of the contract for a code of the table."""
    words = DECLINES[code]
    decline: Json = {"code": code, "network_code": words.network_code, "message": words.message}
    if advice := advice_code or words.advice_code:
        decline["advice_code"] = advice
    return decline


@lru_cache(maxsize=256)  # an instant is told two or three times, a test clock's for hours
def rfc3339(at: datetime) -> str:
    """UTC with six decimals and Z, so that instants sort as text. Takes UTC instants only."""
    assert at.tzinfo is UTC
    return at.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def read_instant(text: str) -> datetime:
    """Raises ValueError for anything but an instant with its offset."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("an instant without an offset from UTC")
    return at.astimezone(UTC)
