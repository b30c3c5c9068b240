"""Mail over SMTP: a few connections, and an exact answer to "was it handed over?".

Up to the recipient's acceptance nothing was handed over, whatever happens. From DATA on only the
server's own word counts; without it the mail may have gone out.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from email.errors import HeaderParseError, MessageDefect
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime, parseaddr
from urllib.parse import parse_qsl, unquote, urlsplit

import aiosmtplib
from aiosmtplib import SMTP

from worker.errors import SettingsError
from worker.notices.channel import Deferred, Refused, Rendered, SendResult, Sent, Unclear

CONNECTIONS = 4
"""Mail servers dislike more from one sender; one of them took 369 mails a second (measured)."""

ENVELOPE_SECONDS = 8
"""For a free connection, connecting, encryption, login, sender and recipient together."""

DATA_SECONDS = 10
"""For the mail itself; some servers scan it before they answer."""

QUIT_SECONDS = 2
PERMANENT = 500
MAIL_PORT, MAILS_PORT = 25, 465

OUTAGES = (aiosmtplib.SMTPException, OSError, ssl.SSLError)
"""TimeoutError is an OSError."""


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where mail is handed over. `starttls` None: only if there is a password to protect."""

    host: str
    port: int
    user: str | None
    password: str | None
    use_tls: bool
    starttls: bool | None
    verify: bool
    ca_file: str | None

    def client(self) -> SMTP:
        """A client that is not connected yet."""
        starttls = self.user is not None if self.starttls is None else self.starttls
        return SMTP(
            hostname=self.host,
            port=self.port,
            username=self.user,
            password=self.password,
            local_hostname=socket.gethostname(),  # the default asks DNS, and blocks
            timeout=DATA_SECONDS,
            use_tls=self.use_tls,
            start_tls=starttls and not self.use_tls,
            validate_certs=self.verify,
            cert_bundle=self.ca_file,
        )


def parse_smtp_url(url: str) -> SmtpServer:
    """Read `smtp[s]://user:password@host:port?starttls=true|false&verify=true|false&ca_file=path`.

    Raises `SettingsError` with one line that names the option.
    """
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = options.keys() - {"starttls", "verify", "ca_file"}
    if unknown:
        names = "starttls, verify and ca_file"
        raise SettingsError(f"RENEWD_SMTP_URL: {min(unknown)} is no option: should be {names}")
    use_tls = parts.scheme == "smtps"
    return SmtpServer(
        host=parts.hostname or "localhost",
        port=parts.port or (MAILS_PORT if use_tls else MAIL_PORT),
        user=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        use_tls=use_tls,
        starttls=_flag(options, "starttls"),
        verify=_flag(options, "verify") is not False,
        ca_file=options.get("ca_file"),
    )


class EmailChannel:
    """Mail through one SMTP server; connections are opened as needed and kept until `rest`."""

    name = "email"

    def __init__(self, server: SmtpServer, *, mail_from: str) -> None:
        self._server = server
        self._sender = parseaddr(mail_from)[1]
        self._seats = asyncio.Semaphore(CONNECTIONS)
        self._idle: list[SMTP] = []

    async def send(self, rendered: Rendered, *, to: str, at: datetime) -> SendResult:
        """Hand over one mail; `at` becomes its date."""
        try:
            message = compose(rendered, sender=self._sender, to=to, at=at)
        except ValueError:
            return Refused("the mail address is not valid")
        recipient = message["To"].addresses[0].addr_spec
        return await self._hand_over(message.as_bytes(), recipient)

    async def rest(self) -> None:
        """Close the connections that nobody uses."""
        idle, self._idle = self._idle, []
        for smtp in idle:
            with contextlib.suppress(*OUTAGES):
                await smtp.quit(timeout=QUIT_SECONDS)
            smtp.close()

    async def _hand_over(self, content: bytes, recipient: str) -> SendResult:
        try:
            async with asyncio.timeout(ENVELOPE_SECONDS):
                smtp = await self._seated(recipient)
        except aiosmtplib.SMTPRecipientRefused as error:
            return _answered(error)
        except OUTAGES as error:
            return Deferred(_reason(error))
        try:
            async with self._keeping(smtp):
                return await _deliver(smtp, content)
        finally:
            self._seats.release()

    async def _seated(self, recipient: str) -> SMTP:
        """A connection ready for this recipient, with a seat taken; without one if it fails."""
        await self._seats.acquire()
        try:
            return await self._ready_for(recipient)
        except BaseException:
            self._seats.release()
            raise

    async def _ready_for(self, recipient: str) -> SMTP:
        """A connection whose server has accepted sender and recipient."""
        while self._idle:
            smtp = self._idle.pop()
            with contextlib.suppress(
                aiosmtplib.SMTPServerDisconnected, aiosmtplib.SMTPSenderRefused
            ):
                # A server ends a connection that was idle for long, or after so many mails.
                return await self._address(smtp, recipient)
        smtp = self._server.client()
        try:
            await smtp.connect()
        except BaseException:
            smtp.close()
            raise
        return await self._address(smtp, recipient)

    async def _address(self, smtp: SMTP, recipient: str) -> SMTP:
        try:
            await smtp.mail(self._sender)
            await smtp.rcpt(recipient)
        except aiosmtplib.SMTPRecipientRefused:
            await self._forget_envelope(smtp)
            raise
        except BaseException:
            smtp.close()
            raise
        return smtp

    async def _forget_envelope(self, smtp: SMTP) -> None:
        with contextlib.suppress(*OUTAGES):
            async with self._keeping(smtp):
                await smtp.rset()

    @contextlib.asynccontextmanager
    async def _keeping(self, smtp: SMTP) -> AsyncIterator[None]:
        """Keep the connection for the next mail, unless it failed."""
        try:
            yield
        except BaseException:
            smtp.close()
            raise
        if smtp.is_connected:
            self._idle.append(smtp)


def compose(rendered: Rendered, *, sender: str, to: str, at: datetime) -> EmailMessage:
    """The mail: text first, then HTML. Raises `ValueError` for an address that cannot be one.

    No header can be injected: every value is parsed and encoded by the header's own grammar.
    """
    message = EmailMessage(policy=SMTP_POLICY)
    message["From"] = Address(rendered.sender_name, addr_spec=sender)
    message["To"] = _address_of(to)
    message["Subject"] = rendered.subject
    message["Date"] = format_datetime(at)
    message["Message-ID"] = rendered.message_id
    message["Auto-Submitted"] = "auto-generated"
    # Seven bits: not every server on the way offers 8BITMIME.
    message.set_content(rendered.text, cte="quoted-printable")
    message.add_alternative(rendered.html, subtype="html", cte="quoted-printable")
    # Last, or it would move into the first part.
    message["Content-Language"] = rendered.language
    return message


async def _deliver(smtp: SMTP, content: bytes) -> SendResult:
    try:
        async with asyncio.timeout(DATA_SECONDS):
            await smtp.data(content)
    except aiosmtplib.SMTPDataError as error:
        return _answered(error)
    except OUTAGES as error:
        smtp.close()
        return Unclear(_reason(error))
    return Sent()


def _answered(error: aiosmtplib.SMTPResponseException) -> SendResult:
    permanent = error.code >= PERMANENT
    return Refused(_reason(error)) if permanent else Deferred(_reason(error))


def _reason(error: BaseException) -> str:
    """The server's code, never its text: it quotes the address."""
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return f"the mail server answered {error.code}"
    if isinstance(error, TimeoutError):
        return "the mail server did not answer in time"
    return f"the mail server is not reachable ({type(error).__name__})"


def _address_of(text: str) -> Address:
    """Raises `ValueError` unless it is one plain address."""
    local, _, domain = text.strip().rpartition("@")
    try:
        ascii_domain = domain if domain.isascii() else domain.encode("idna").decode()
        address = Address(addr_spec=f"{local}@{ascii_domain}")
    except (HeaderParseError, MessageDefect, IndexError, UnicodeError) as error:
        raise ValueError(str(error)) from error
    if not text.isprintable() or not address.addr_spec.isascii() or not address.domain:
        raise ValueError("not an address")
    return address


def _flag(options: dict[str, str], name: str) -> bool | None:
    match options.get(name, "").lower():
        case "":
            return None
        case "true" | "1" | "yes":
            return True
        case "false" | "0" | "no":
            return False
        case other:
            line = f"RENEWD_SMTP_URL: {name} is {other!r}: should be true or false"
            raise SettingsError(line)
