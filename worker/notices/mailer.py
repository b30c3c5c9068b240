"""From a letter to its customer: render it, pick the channel, send it."""

from datetime import datetime
from uuid import UUID

import jinja2
import structlog

from worker.notices.channel import Channel, Refused, SendResult
from worker.notices.letters import Letter
from worker.notices.render import render
from worker.notices.smtp import EmailChannel, parse_smtp_url
from worker.settings import Settings

TEMPLATE_ERRORS = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)
"""What a template can do wrong; a mail that cannot be put into words must not stop its neighbours."""

log = structlog.get_logger()


class Mailer:
    """Sends letters through a channel; belongs to one event loop."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def send(self, letter: Letter, *, installation_id: UUID, at: datetime) -> SendResult:
        """Send one letter (business time `at`); the same notice always has the same Message-ID."""
        if not letter.to:
            return Refused("the customer has no mail address")
        try:
            rendered = render(letter, installation_id=installation_id)
        except TEMPLATE_ERRORS as error:
            log.exception("notice_misrendered", notice_id=str(letter.notice_id), kind=letter.kind)
            return Refused(f"the template is wrong: {type(error).__name__}")
        return await self._channel.send(rendered, to=letter.to, at=at)

    async def rest(self) -> None:
        """Let go of idle connections."""
        await self._channel.rest()


def open_mailer(settings: Settings) -> Mailer | None:
    """The mailer of RENEWD_SMTP_URL, None if there is none; nothing is connected yet.

    Raises `SettingsError` for an option of the URL that is not known.
    """
    if not settings.smtp_url:
        return None
    server = parse_smtp_url(settings.smtp_url)
    return Mailer(EmailChannel(server, mail_from=settings.mail_from))
