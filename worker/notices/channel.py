"""What a channel is: a way to a customer, by mail first. A new one is a file beside `smtp.py`.

A channel never raises for what the far side does; it says which of four things became of the mail.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias


@dataclass(frozen=True, slots=True)
class Rendered:
    """A notice in its customer's language; `message_id` is the same however often it is sent."""

    message_id: str
    language: str
    sender_name: str
    subject: str
    text: str
    html: str


@dataclass(frozen=True, slots=True)
class Sent:
    """The far side took it."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The far side will never take it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Deferred:
    """It was surely not taken, and may be later."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unclear:
    """It was handed over and no answer came: counts as sent, because twice is worse than never."""

    reason: str


SendResult: TypeAlias = Sent | Refused | Deferred | Unclear


class Channel(Protocol):
    """A way to a customer; may be used by several tasks at once."""

    name: str

    async def send(self, rendered: Rendered, *, to: str, at: datetime) -> SendResult:
        """Send one notice (business time `at`) within 20 s."""
        ...

    async def rest(self) -> None:
        """Let go of idle connections; the next `send` opens new ones."""
        ...
