"""The adapter `sandbox`: every answer, and the lack of one, becomes an outcome; it never raises."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.outcomes import (
    ActionRequired,
    Approved,
    Canceled,
    ChargeOutcome,
    DeclineClass,
    Declined,
    NotFound,
    NotSent,
    Pending,
    Refused,
    Unknown,
)
from lab.sandbox import Fault, FaultPlan, RunningSandbox, SandboxConfig, SandboxFaults, serve
from tests.world import API_KEY, START
from worker.errors import ServerUnreachable
from worker.gateways import ChargeRequest
from worker.gateways.sandbox import SandboxGateway
from worker.gateways.sandbox_answers import AnswerError, charge_outcome
from worker.settings import GatewaySettings

INVOICE = UUID(int=1)


def declared(url: str, **settings: Any) -> SandboxGateway:
    """The adapter for a server, given up on quickly."""
    told = {"adapter": "sandbox", "base_url": url, "api_key": API_KEY, "try_seconds": 0.3}
    return SandboxGateway("sandbox", GatewaySettings.model_validate(told | settings))


@pytest.fixture
async def sandbox() -> AsyncIterator[RunningSandbox]:
    """A gateway with pages of two charges."""
    running = await serve(SandboxConfig(api_key=API_KEY, seed=1, page_size=2))
    running.set_clock(START)
    yield running
    await running.close()


@pytest.fixture
async def gateway(sandbox: RunningSandbox) -> AsyncIterator[SandboxGateway]:
    """The adapter for it."""
    made = declared(sandbox.url)
    yield made
    await made.close()


def request_bytes(gateway: SandboxGateway, token: str = "tok_ok_1") -> bytes:
    """The body of a charge of 49.00."""
    return gateway.request_bytes(ChargeRequest(4900, "USD", token, "cus_1", INVOICE, 1, "CHESS"))


ID = {"id": "ch_1"}
PAID = ID | {"status": "succeeded", "amount_minor": 4900, "currency": "USD"}
ACTION = {"type": "redirect", "url": "https://x", "code": None, "expires_at": None}
NSF = {"code": "insufficient_funds", "network_code": "51", "message": "No."}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (PAID, Approved("ch_1", 4900, "USD")),
        (ID | {"status": "pending"}, Pending("ch_1")),
        (ID | {"status": "pending", "action": ACTION}, Pending("ch_1", ACTION)),
        (ID | {"status": "requires_action", "action": ACTION}, ActionRequired("ch_1", ACTION)),
        (ID | {"status": "canceled"}, Canceled("ch_1")),
        (
            ID | {"status": "declined", "decline": NSF},
            Declined("ch_1", "insufficient_funds", DeclineClass.SOFT, "51", None, "No."),
        ),
    ],
)
def test_a_200_is_what_it_says(body: dict[str, Any], expected: ChargeOutcome) -> None:
    """Every status of the contract is an outcome of its own."""
    assert charge_outcome(200, {}, json.dumps(body).encode()) == expected


OWN = b'{"error": {"type": "server_error", "message": "sorry"}}'
PROXY = b"<html>502 Bad Gateway</html>"


@pytest.mark.parametrize(
    ("status", "headers", "body", "expected"),
    [
        # Documented as not executed: a bug of ours, never the customer's.
        (400, {}, b'{"error": {"type": "idempotency_error"}}', Refused("400 idempotency_error")),
        (401, {}, b"", Refused("401 without an error type")),
        (422, {}, b"[]", Refused("422 without an error type")),
        # The gateway's own 5xx ends delivery, a replayed one will never change.
        (500, {}, OWN, Unknown("500 server_error", answered=True)),
        (
            503,
            {"Idempotent-Replayed": "true"},
            OWN,
            Unknown("503 server_error", answered=True, replayed=True),
        ),
        # A proxy's says nothing of what goes on behind it.
        (502, {}, PROXY, Unknown("502 without an error type")),
        (504, {"Idempotent-Replayed": "true"}, b"", Unknown("504 without an error type")),
        # Nor do these of the first request with this key.
        (409, {"Idempotent-Replayed": "true"}, OWN, Unknown("409 server_error")),
        (429, {"Retry-After": "7"}, OWN, Unknown("429 server_error", retry_after_seconds=7)),
        (429, {"Retry-After": "9" * 5000}, OWN, Unknown("429 server_error", False, False, 3600)),
        (429, {"Retry-After": "Mon, 1 Jan"}, OWN, Unknown("429 server_error")),
        (301, {}, b"", Unknown("301 without an error type")),
        (201, {}, json.dumps(PAID).encode(), Unknown("201 without an error type")),
    ],
)
def test_other_answers_are_refused_or_unknown(
    status: int, headers: Mapping[str, str], body: bytes, expected: ChargeOutcome
) -> None:
    """Nothing but a documented "not executed" is a no, and nothing but a 200 is a yes."""
    assert charge_outcome(status, headers, body) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        PROXY,
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        json.dumps(ID | {"status": "paid"}).encode(),
        json.dumps(PAID | {"id": ""}).encode(),
        json.dumps(PAID | {"id": 7}).encode(),
        json.dumps(PAID | {"id": "x" * 256}).encode(),
        json.dumps(PAID | {"id": "ch\u0000"}).encode(),
        json.dumps(PAID | {"id": "ch\ud800"}).encode(),
        json.dumps(PAID | {"amount_minor": 4900.0}).encode(),
        json.dumps(PAID | {"amount_minor": True}).encode(),
        json.dumps(PAID | {"amount_minor": "4900"}).encode(),
        json.dumps(ID | {"status": "requires_action"}).encode(),
        json.dumps(ID | {"status": "declined", "decline": "no"}).encode(),
    ],
)
def test_a_200_that_breaks_the_contract_is_no_answer(body: bytes) -> None:
    """Half a yes is not a yes: the caller makes it unknown."""
    with pytest.raises(AnswerError):
        charge_outcome(200, {}, body)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
NEARLY = st.fixed_dictionaries(
    {},
    optional={
        "id": ANYTHING,
        "status": st.sampled_from(["succeeded", "declined", "pending", "requires_action", "x"]),
        "amount_minor": ANYTHING,
        "currency": ANYTHING,
        "decline": st.dictionaries(st.sampled_from(["code", "network_code"]), ANYTHING) | ANYTHING,
        "action": ANYTHING,
        "error": ANYTHING,
    },
)


@given(
    st.sampled_from([200, 400, 409, 429, 500]),
    st.dictionaries(st.sampled_from(["Retry-After", "Idempotent-Replayed"]), st.text()),
    st.binary() | NEARLY.map(json.dumps).map(str.encode),
)
def test_no_answer_is_unforeseen(status: int, headers: dict[str, str], body: bytes) -> None:
    """Whatever a gateway says, it is an outcome or an answer error, and a yes is a whole one."""
    try:
        outcome = charge_outcome(status, headers, body)
    except AnswerError:
        return
    if isinstance(outcome, Approved):
        assert isinstance(outcome.amount_minor, int)
        assert outcome.gateway_ref


async def test_the_same_charge_has_the_same_bytes(gateway: SandboxGateway) -> None:
    """A key is bound to its body: built twice, on any machine, it is the same to the byte."""
    assert request_bytes(gateway) == (
        b'{"amount_minor":4900,"currency":"USD","payment_method":"tok_ok_1","customer":"cus_1",'
        b'"reference":"00000000-0000-0000-0000-000000000001","off_session":true,'
        b'"metadata":{"invoice_id":"00000000-0000-0000-0000-000000000001","attempt":1},'
        b'"statement_descriptor":"CHESS"}'
    )


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault.SILENCE, "no answer in time"),
        (Fault.SLOW_DRIP, "no answer in time"),
        (Fault.RESET, "Client"),
        (Fault.HUGE_BODY, "AnswerError: a body of"),
        (Fault.NOT_JSON, "AnswerError: a body that is not JSON"),
    ],
)
async def test_what_the_network_does_is_unknown(
    sandbox: RunningSandbox, gateway: SandboxGateway, fault: Fault, reason: str
) -> None:
    """Of a charge as of a look-up, in time, and without an exception."""
    faults = SandboxFaults(rates={fault: 1}, read_rates={fault: 1})
    sandbox.set_faults(FaultPlan(faults=faults))
    async with asyncio.timeout(5):
        charged = await gateway.charge(request=request_bytes(gateway), key="k")
        looked = await gateway.look_up(key="k", reference=INVOICE, gateway_ref=None)
        ref = next((charge["id"] for charge in sandbox.charges()), "ch_1")
        read = await gateway.look_up(key="k", reference=INVOICE, gateway_ref=ref)
    assert isinstance(charged, Unknown)
    assert charged.reason.startswith(reason)
    assert not charged.answered
    assert isinstance(looked, Unknown)
    assert isinstance(read, Unknown)


async def test_a_refused_connection_sent_nothing() -> None:
    """Nobody listens: not a byte of the request left us."""
    gateway = declared("http://127.0.0.1:9")
    outcome = await gateway.charge(request=b"{}", key="k")
    assert isinstance(outcome, NotSent)
    assert not await gateway.is_healthy()
    with pytest.raises(ServerUnreachable, match="its clock cannot be set"):
        await gateway.set_clock(START)
    await gateway.close()


async def test_look_ups_read_by_id_key_and_reference(
    sandbox: RunningSandbox, gateway: SandboxGateway
) -> None:
    """Whichever is known; of the reference's charges only the one with our key counts."""
    yes = await gateway.charge(request=request_bytes(gateway), key="k1")
    assert isinstance(yes, Approved)
    for ref in (None, yes.gateway_ref):
        assert await gateway.look_up(key="k1", reference=INVOICE, gateway_ref=ref) == yes
    assert await gateway.look_up(key="k2", reference=INVOICE, gateway_ref=None) == NotFound()
    assert await gateway.look_up(key="k2", reference=INVOICE, gateway_ref="ch_0") == NotFound()
    wrong = "../health?x=1"
    assert await gateway.look_up(key="k2", reference=INVOICE, gateway_ref=wrong) == NotFound()
    assert await gateway.look_up_ref(wrong) is None
    found = await gateway.look_up_ref(yes.gateway_ref)
    assert found is not None
    assert (found.idempotency_key, found.status, found.amount_minor) == ("k1", "succeeded", 4900)


async def test_a_cancel_says_what_is_final(gateway: SandboxGateway) -> None:
    """A pending payment is canceled, one that succeeded stays so, an unknown one is not found."""
    pending = await gateway.charge(request=request_bytes(gateway, "tok_pending_ok_1"), key="k1")
    assert isinstance(pending, Pending)
    assert await gateway.cancel(pending.gateway_ref) == Canceled(pending.gateway_ref)
    yes = await gateway.charge(request=request_bytes(gateway), key="k2")
    assert isinstance(yes, Approved)
    assert await gateway.cancel(yes.gateway_ref) == yes
    assert await gateway.cancel("ch_0") == NotFound()


async def test_a_ledger_is_read_page_by_page(
    sandbox: RunningSandbox, gateway: SandboxGateway
) -> None:
    """Five charges in pages of two, each once; a ledger that breaks off raises."""
    for n in range(5):
        await gateway.charge(request=request_bytes(gateway), key=f"k{n}")
    window = {"created_from": START, "created_to": START + timedelta(days=1)}
    pages = [page async for page in gateway.list_charges(**window)]
    assert [[charge.idempotency_key for charge in page] for page in pages] == [
        ["k0", "k1"],
        ["k2", "k3"],
        ["k4"],
    ]
    sandbox.set_faults(FaultPlan(faults=SandboxFaults(read_rates={Fault.ERROR_503: 1})))
    with pytest.raises(ServerUnreachable, match="its list of charges cannot be read"):
        _ = [page async for page in gateway.list_charges(**window)]


async def test_health_and_clock(sandbox: RunningSandbox, gateway: SandboxGateway) -> None:
    """Healthy with the right key only; the gateway follows the test clock."""
    assert await gateway.is_healthy()
    stranger = declared(sandbox.url, api_key="sk_wrong")
    assert not await stranger.is_healthy()
    await stranger.close()
    later = datetime(2027, 1, 1, tzinfo=UTC)
    await gateway.set_clock(later)
    yes = await gateway.charge(request=request_bytes(gateway), key="k1")
    assert isinstance(yes, Approved)
    found = await gateway.look_up_ref(yes.gateway_ref)
    assert found is not None
    assert found.created_at == later
