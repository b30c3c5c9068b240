import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

import pytest

from tests.mail import SmtpSink
from tests.worker.rough_smtp import DROP, HANG, RoughServer
from worker.errors import SettingsError
from worker.notices import smtp
from worker.notices.channel import Deferred, Refused, Rendered, SendResult, Sent, Unclear
from worker.notices.smtp import EmailChannel, parse_smtp_url

AT = datetime(2026, 3, 10, 10, 0, tzinfo=UTC)
MAIL = Rendered(
    message_id="<notice-1@installation.renewd>",
    language="pt-BR",
    sender_name='Academia "Norte", Śródmieście',
    subject="Renova em 1º de abril, R$ 49,90",
    text="Olá Ana,\n.\n..dots\n" + "long " * 400,
    html="<p>Olá <b>Ana</b></p>",
)
Start = Callable[[RoughServer], Awaitable[EmailChannel]]


def channel(url: str) -> EmailChannel:
    return EmailChannel(parse_smtp_url(url), mail_from="Billing <billing@school.example>")


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start a rough server and speak to it."""
    servers: list[RoughServer] = []

    async def begin(server: RoughServer) -> EmailChannel:
        servers.append(server)
        return channel(await server.start())

    yield begin
    for server in servers:
        await server.stop()


async def send(to: EmailChannel, address: str = "ana@example.org") -> SendResult:
    return await to.send(MAIL, to=address, at=AT)


async def test_a_mail_arrives_whole(smtp_sink: SmtpSink) -> None:
    """Text before HTML, in UTF-8, with the headers that mail programs and people rely on."""
    to = channel(smtp_sink.url)
    assert await send(to) == Sent()
    await to.rest()
    (message,) = smtp_sink.messages
    assert message["From"] == '"Academia \\"Norte\\", Śródmieście" <billing@school.example>'
    assert message["To"] == "ana@example.org"
    assert message["Subject"] == MAIL.subject
    assert message["Message-ID"] == MAIL.message_id
    assert message["Content-Language"] == "pt-BR"
    assert message["Date"].datetime == AT
    assert message["Auto-Submitted"] == "auto-generated"
    text, html = message.iter_parts()
    assert (text.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    assert text.get_content().splitlines() == MAIL.text.splitlines()
    assert html.get_content().strip() == MAIL.html
    assert max(len(line) for line in message.as_bytes().splitlines()) < 998


async def test_a_domain_with_umlauts_is_encoded(smtp_sink: SmtpSink) -> None:
    """The address goes out in ASCII, as every server understands it."""
    assert await send(channel(smtp_sink.url), "ana@müller.example") == Sent()
    assert smtp_sink.messages[0]["To"] == "ana@xn--mller-kva.example"


@pytest.mark.parametrize(
    "address",
    [
        "",
        "nobody",
        "a@",
        "@example.org",
        "a@b@c@",
        "a b@example.org",
        "a@example.org, b@example.org",
        "a@example.org\r\nBcc: b@example.org",
        "a@example.org\nRCPT TO:<b@example.org>",
        "a@example.org>\r\nDATA",
        "<a@example.org>",
        "jörg@example.org",
        "a@example.org\x00",
        f"a@{'ü' * 70}.org",
    ],
)
async def test_what_is_no_address_is_refused(smtp_sink: SmtpSink, address: str) -> None:
    """Nothing is sent to it, and nothing it holds becomes a header or a command."""
    assert await send(channel(smtp_sink.url), address) == Refused("the mail address is not valid")
    assert smtp_sink.messages == []


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        ("550 no such user", Refused("the mail server answered 550")),
        ("451 try later", Deferred("the mail server answered 451")),
    ],
)
async def test_the_servers_word_on_the_recipient(
    smtp_sink: SmtpSink, answer: str, result: SendResult
) -> None:
    """5xx is for good, 4xx for now; the next mail goes out over the same connection."""
    smtp_sink.replies["bad@example.org"] = answer
    to = channel(smtp_sink.url)
    assert await send(to, "bad@example.org") == result
    assert await send(to) == Sent()
    await to.rest()
    assert [message["To"] for message in smtp_sink.messages] == ["ana@example.org"]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"MAIL": "452 full"}, Deferred("the mail server answered 452")),
        # Our sender is refused: not this customer's fault, so it may be set right meanwhile.
        ({"MAIL": "550 who are you"}, Deferred("the mail server answered 550")),
        ({"MAIL": DROP}, Deferred("the mail server is not reachable (SMTPServerDisconnected)")),
        ({"RCPT": DROP}, Deferred("the mail server is not reachable (SMTPServerDisconnected)")),
        ({"RCPT": HANG}, Deferred("the mail server did not answer in time")),
        ({"EHLO": HANG}, Deferred("the mail server did not answer in time")),
        ({"DATA": "451 not now"}, Deferred("the mail server answered 451")),
        ({"DATA": "554 no"}, Refused("the mail server answered 554")),
        ({".": "452 disk full"}, Deferred("the mail server answered 452")),
        ({".": "554 looks like spam"}, Refused("the mail server answered 554")),
        # Taken, perhaps: the word that it was is missing.
        ({".": DROP}, Unclear("the mail server is not reachable (SMTPServerDisconnected)")),
        ({".": HANG}, Unclear("the mail server did not answer in time")),
    ],
)
async def test_every_way_to_fail(
    start: Start, monkeypatch: pytest.MonkeyPatch, answers: dict[str, str], expected: SendResult
) -> None:
    """Before the recipient is accepted nothing was handed over; after it only an answer counts."""
    monkeypatch.setattr(smtp, "ENVELOPE_SECONDS", 0.3)
    monkeypatch.setattr(smtp, "DATA_SECONDS", 0.3)
    assert await send(await start(RoughServer(answers))) == expected


async def test_a_server_that_is_away_defers() -> None:
    """A refused connection has handed over nothing."""
    result = await send(channel("smtp://127.0.0.1:1"))
    assert result == Deferred("the mail server is not reachable (SMTPConnectError)")


async def test_a_server_that_ends_connections_is_met_again(start: Start) -> None:
    """After 421 on a used connection the mail goes out over a new one."""
    server = RoughServer({}, mails_per_connection=2)
    to = await start(server)
    for _ in range(5):
        assert await send(to) == Sent()
    await to.rest()
    assert (server.taken, server.connections) == (5, 3)


async def test_few_connections_for_many_mails(start: Start) -> None:
    """Mails share at most four connections, and `rest` closes them."""
    server = RoughServer({})
    to = await start(server)
    results = await asyncio.gather(*(send(to) for _ in range(60)))
    await to.rest()
    assert results == [Sent()] * 60
    assert (server.taken, server.connections) == (60, smtp.CONNECTIONS)


async def test_a_password_never_travels_in_the_open(start: Start) -> None:
    """With a user in the URL, encryption is required unless it is switched off."""
    server = RoughServer({})
    await start(server)
    url = f"smtp://me:secret@127.0.0.1:{(await server.start()).rpartition(':')[2]}"
    result = await send(channel(url))
    assert isinstance(result, Deferred)
    assert server.taken == 0


def test_the_options_of_the_url() -> None:
    """Ports, encryption and verification follow the scheme and the query."""
    plain = parse_smtp_url("smtp://mail.example")
    assert (plain.host, plain.port, plain.use_tls) == ("mail.example", 25, False)
    tls = parse_smtp_url("smtps://me:p%40ss@mail.example?verify=false")
    assert (tls.port, tls.use_tls, tls.user, tls.password) == (465, True, "me", "p@ss")
    assert (tls.verify, tls.starttls) == (False, None)
    starttls = parse_smtp_url("smtp://mail.example:587?starttls=true&ca_file=/etc/ca.pem")
    assert (starttls.port, starttls.starttls, starttls.ca_file) == (587, True, "/etc/ca.pem")


@pytest.mark.parametrize(
    ("url", "line"),
    [
        (
            "smtp://h?startls=true",
            "RENEWD_SMTP_URL: startls is no option: should be starttls, verify and ca_file",
        ),
        (
            "smtp://h?starttls=maybe",
            "RENEWD_SMTP_URL: starttls is 'maybe': should be true or false",
        ),
    ],
)
def test_a_wrong_option_is_named(url: str, line: str) -> None:
    """One line says what is wrong and what it should be."""
    with pytest.raises(SettingsError) as raised:
        parse_smtp_url(url)
    assert str(raised.value) == line
