"""What the charge path asks of a gateway, and what a gateway must declare about itself.

An adapter translates; it decides nothing. It never raises for what a gateway or a network does: every
answer, and the lack of one, is an outcome. What it cannot name is `Unknown`.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from billing.outcomes import ChargeOutcome, LookupOutcome


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the unknown-outcome ladder may rely on (business time).

    `key_lifetime`: a key sent again within it is never a second charge. `lookup_lag`: how far look-ups
    may be behind charges. `max_delivery_delay`: a request may still be executed this long after it was
    sent.
    """

    key_lifetime: timedelta
    lookup_lag: timedelta
    max_delivery_delay: timedelta


@dataclass(frozen=True, slots=True)
class ChargeRequest:
    """Everything that goes into the bytes of a charge."""

    amount_minor: int
    currency: str
    token: str
    customer_id: str
    invoice_id: UUID
    ordinal: int
    statement_descriptor: str | None


@dataclass(frozen=True, slots=True)
class LedgerCharge:
    """One charge as the gateway's own ledger tells it."""

    gateway_ref: str
    idempotency_key: str
    reference: str
    status: str
    amount_minor: int
    currency: str
    amount_refunded_minor: int
    created_at: datetime


class Gateway(Protocol):
    """One configured gateway; safe for many concurrent calls in one event loop."""

    name: str
    capabilities: Capabilities

    def request_bytes(self, request: ChargeRequest) -> bytes:
        """The body of a charge: built once, stored, and sent unchanged ever after."""
        ...

    async def charge(self, *, request: bytes, key: str) -> ChargeOutcome:
        """One network try; ends within the gateway's `try_seconds`."""
        ...

    async def look_up(self, *, key: str, reference: UUID, gateway_ref: str | None) -> LookupOutcome:
        """Read what became of a key: by the gateway's own id, else by key, else by our reference."""
        ...

    async def cancel(self, gateway_ref: str) -> LookupOutcome:
        """End a charge that is under way; the answer is whatever is final now."""
        ...

    async def look_up_ref(self, gateway_ref: str) -> LedgerCharge | None:
        """The charge with the gateway's own id, None if it has none or does not answer."""
        ...

    def list_charges(
        self, *, created_from: datetime, created_to: datetime
    ) -> AsyncIterator[Sequence[LedgerCharge]]:
        """The gateway's ledger page by page, in its own order. Raises `GatewayUnreachableError`."""
        ...

    async def set_clock(self, now: datetime) -> None:
        """Follow the test clock, where the gateway has one to move."""
        ...

    async def is_healthy(self) -> bool:
        """Whether it answers and takes our key."""
        ...

    async def close(self) -> None:
        """Close its connections."""
        ...
