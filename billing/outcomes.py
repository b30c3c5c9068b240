"""What a gateway may have told us, as values. A decline is a value, never an exception.

Three truths, never two: it was charged (`Approved`), it was not (`Declined`, `Canceled`, `NotSent`,
`Refused`), or we do not know yet (`Unknown`). `Unknown` is the answer to everything that no table
names: timeouts, resets, 5xx, 409, 429, bodies that cannot be read, a wrong amount echoed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class DeclineClass(StrEnum):
    """What may legally follow a decline.

    `HARD`: never again with this method. `FIX_DATA`: only with new card details. `CUSTOMER`: only
    with the customer present. `SOFT`: the retry ladder. `TECHNICAL`: minutes to hours, then days.
    """

    HARD = "hard"
    FIX_DATA = "fix_data"
    CUSTOMER = "customer"
    SOFT = "soft"
    TECHNICAL = "technical"


@dataclass(frozen=True, slots=True)
class Approved:
    """The money moved, in the amount and currency that the gateway echoed."""

    gateway_ref: str
    amount_minor: int
    currency: str


@dataclass(frozen=True, slots=True)
class Declined:
    """A documented no of bank or scheme; the codes are the gateway's own, verbatim."""

    gateway_ref: str | None
    code: str
    decline_class: DeclineClass
    network_code: str | None = None
    advice_code: str | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Pending:
    """Taken, and settled later; `action` is what the payer may use meanwhile (a voucher, a code)."""

    gateway_ref: str
    action: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class ActionRequired:
    """Nothing moves until the payer acts: `action` has type, url, code, expires_at."""

    gateway_ref: str
    action: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Canceled:
    """Ended at the gateway before money moved; it can no longer succeed."""

    gateway_ref: str


@dataclass(frozen=True, slots=True)
class NotSent:
    """Not a byte of the request left us (refused connection, DNS, TLS): the same key may go later."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Documented as not executed (validation error, bad key): our bug. Freeze and alert; no decline."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Perhaps charged, perhaps not. Only the same key or an authoritative look-up may resolve it.

    `answered`: a complete answer for this very key was received, 5xx included, so nothing of it is on
    the wire any more. `replayed`: that answer is stored and will never change, so resending is
    useless. `retry_after_seconds`: the gateway asked to be left alone that long.
    """

    reason: str
    answered: bool = False
    replayed: bool = False
    retry_after_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class NotFound:
    """The gateway has no charge under this key (yet): proof only after the bounds of the ladder."""


@dataclass(frozen=True, slots=True)
class Absent:
    """Proven: nothing that was sent under this key up to `sent_at` (business time) was executed."""

    sent_at: datetime


@dataclass(frozen=True, slots=True)
class NotFoundYet:
    """Not found, which proves nothing before `again_at` (business time): read once more then."""

    again_at: datetime


ChargeOutcome = (
    Approved | Declined | Pending | ActionRequired | Canceled | NotSent | Refused | Unknown
)
"""What sending (or resending) a charge can lead to."""

LookupOutcome = Approved | Declined | Pending | ActionRequired | Canceled | NotFound | Unknown
"""What reading can tell; a look-up that failed is `Unknown`, whatever the reason."""

Outcome = ChargeOutcome | Absent | NotFoundYet
"""What can be settled: a bare `NotFound` has to be judged first."""
