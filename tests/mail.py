"""An SMTP server that keeps what it is sent."""

from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from lab.servers.process import free_port


class SmtpSink:
    """`messages` in order of arrival; `replies` maps a recipient to the refusal it gets."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.replies: dict[str, str] = {}
        self._controller = Controller(self, hostname="127.0.0.1", port=free_port())

    @property
    def url(self) -> str:
        """`smtp://host:port`, without encryption or login."""
        return f"smtp://{self._controller.hostname}:{self._controller.port}"

    def start(self) -> None:
        """Listens in a thread of its own."""
        self._controller.start()

    def stop(self) -> None:
        """Breaks connections off; what came stays in `messages`."""
        self._controller.stop()

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Refuses those in `replies`, for instance with "550 no such user"."""
        if address in self.replies:
            return self.replies[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        """Keeps the message."""
        content = cast("bytes", envelope.content)
        self.messages.append(message_from_bytes(content, policy=policy.default))
        return "250 kept"
