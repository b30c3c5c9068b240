"""Derived identities: the same parts give the same id on every machine and after every restore.

No clock, no randomness, no personal text that could be read back out of a key. A row that was lost in
a restore comes back with the key the gateway has already seen.
"""

from hashlib import sha256
from urllib.parse import quote
from uuid import UUID, uuid5

NAMESPACE = UUID("6f0f6c1e-6d0b-5c0e-9a55-3d1f3c7f2b41")
"""Of all ids below. Changing it would charge everybody twice."""

KEY_PREFIX = "b1"


def invoice_id(subscription_id: str, kind: str, n: int | str) -> UUID:
    """The invoice of one subscription, kind and `n`: a period's index, or an event's id (one-offs).

    `kind` is a word of ours without a colon. A text `n` is quoted, so that no choice of ids makes two
    different triples meet.
    """
    tail = n if isinstance(n, int) else quote(n, safe="")
    return uuid5(NAMESPACE, f"{subscription_id}:{kind}:{tail}")


def attempt_id(invoice_id: UUID, ordinal: int) -> UUID:
    """The payment attempt `ordinal` (from 1) of an invoice."""
    return uuid5(NAMESPACE, f"{invoice_id}:attempt:{ordinal}")


def event_id(subscription_id: str, sequence: int) -> UUID:
    """The message `sequence` (from 1) of a subscription: published twice, it has the same id."""
    return uuid5(NAMESPACE, f"{subscription_id}:event:{sequence}")


def idempotency_key(installation_id: UUID, invoice_id: UUID, ordinal: int) -> str:
    """What the gateway knows an attempt by: 104 characters, `b1:installation:sha256(invoice:ordinal)`.

    The installation stands in clear so that a gateway's ledger can be searched for our own charges.
    """
    digest = sha256(f"{invoice_id}:{ordinal}".encode()).hexdigest()
    return f"{KEY_PREFIX}:{installation_id}:{digest}"
