"""The sandbox gateway's charges: what each token answers, and what a bad request is told."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lab.sandbox.codes import DECLINES
from tests.lab.bank import Bank, charge_body
from tests.lab.conftest import OpenBank

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def test_an_approved_charge_has_the_shape_of_the_contract(bank: Bank) -> None:
    """A success echoes amount, currency, reference and key, with id and gateway time."""
    bank.move_to(NOON)
    reply = await bank.charge("tok_ok_7", key="k1")
    assert reply.status == 200
    assert reply.body == {
        "id": reply.body["id"],
        "status": "succeeded",
        "amount_minor": 1999,
        "currency": "USD",
        "reference": "inv_1",
        "idempotency_key": "k1",
        "created_at": "2026-03-01T12:00:00.000000Z",
        "amount_refunded_minor": 0,
        "disputed": False,
    }
    assert not reply.is_replayed


@pytest.mark.parametrize("code", DECLINES)
async def test_every_decline_code_can_be_asked_for(bank: Bank, code: str) -> None:
    """`tok_decline_<code>_*` declines with that code, its ISO 8583 code and a message."""
    reply = await bank.charge(f"tok_decline_{code}_x1")
    assert reply.status == 200
    assert reply.body["status"] == "declined"
    assert reply.body["decline"]["code"] == code
    assert reply.body["decline"]["network_code"] == DECLINES[code].network_code
    assert reply.body["decline"]["message"]


async def test_a_token_can_carry_merchant_advice(bank: Bank) -> None:
    """A tail that begins with mac and two digits is the decline's advice code."""
    advised = await bank.charge("tok_decline_insufficient_funds_mac25_1")
    plain = await bank.charge("tok_decline_insufficient_funds_1")
    assert advised.body["decline"]["advice_code"] == "25"
    assert "advice_code" not in plain.body["decline"]


async def test_a_sequence_counts_executed_charges_of_its_token(bank: Bank) -> None:
    """`tok_seq_*` answers in its order, the last repeats, and a replay takes no turn."""
    token = "tok_seq_insufficient_funds-do_not_honor-ok_9"
    first = await bank.charge(token, key="k1")
    await bank.charge(token, key="k1")
    rest = [(await bank.charge(token)).body for _ in range(3)]
    assert first.body["decline"]["code"] == "insufficient_funds"
    assert rest[0]["decline"]["code"] == "do_not_honor"
    assert [body["status"] for body in rest[1:]] == ["succeeded", "succeeded"]


@pytest.mark.parametrize(
    ("result", "status"), [("ok", "succeeded"), ("insufficient_funds", "declined")]
)
async def test_a_pending_charge_settles_in_gateway_time(
    bank: Bank, result: str, status: str
) -> None:
    """`tok_pending_<result>_*` is pending until a day later, then final."""
    bank.move_to(NOON)
    charge = (await bank.charge(f"tok_pending_{result}_1")).body
    assert charge["status"] == "pending"
    bank.move_to(NOON + timedelta(hours=23))
    assert (await bank.get(f"/v1/charges/{charge['id']}")).body["status"] == "pending"
    bank.move_to(NOON + timedelta(hours=24))
    settled = (await bank.get(f"/v1/charges/{charge['id']}")).body
    assert settled["status"] == status
    assert settled.get("decline", {}).get("code", "ok") == result


async def test_an_asked_action_is_told_and_done_an_hour_later(bank: Bank) -> None:
    """`tok_action_*` answers requires_action with type, url and expiry, and ends as its name says."""
    bank.move_to(NOON)
    charge = (await bank.charge("tok_action_authentication_required_1")).body
    assert charge["status"] == "requires_action"
    assert charge["action"]["type"] == "redirect"
    assert charge["action"]["url"].endswith(charge["id"])
    assert charge["action"]["expires_at"] == "2026-03-02T12:00:00.000000Z"
    bank.move_to(NOON + timedelta(hours=1))
    ended = (await bank.get(f"/v1/charges/{charge['id']}")).body
    assert (ended["status"], ended["decline"]["code"]) == ("declined", "authentication_required")
    assert "action" not in ended


async def test_an_action_nobody_does_expires(open_bank: OpenBank) -> None:
    """Without a payer who acts, the charge is canceled when its action expires."""
    bank = await open_bank(action_completes_s=None)
    bank.move_to(NOON)
    charge = (await bank.charge("tok_action_ok_1")).body
    bank.move_to(NOON + timedelta(hours=24))
    assert (await bank.get(f"/v1/charges/{charge['id']}")).body["status"] == "canceled"


@pytest.mark.parametrize("token", ["tok_pending_ok_1", "tok_action_ok_1"])
async def test_cancel_ends_an_open_charge_for_good(bank: Bank, token: str) -> None:
    """A canceled charge answers so, again and again, and never settles afterwards."""
    bank.move_to(NOON)
    charge_id = (await bank.charge(token)).body["id"]
    first = await bank.call("POST", f"/v1/charges/{charge_id}/cancel")
    bank.move_to(NOON + timedelta(days=3))
    second = await bank.call("POST", f"/v1/charges/{charge_id}/cancel")
    assert (first.status, first.body["status"]) == (200, "canceled")
    assert (second.status, second.body) == (200, first.body)


async def test_cancel_tells_what_was_final_already(bank: Bank) -> None:
    """Cancelling a final charge changes nothing and answers its status; an unknown one is 404."""
    charge_id = (await bank.charge("tok_ok_1")).body["id"]
    final = await bank.call("POST", f"/v1/charges/{charge_id}/cancel")
    unknown = await bank.call("POST", "/v1/charges/ch_none/cancel")
    assert (final.status, final.body["status"]) == (200, "succeeded")
    assert (unknown.status, unknown.error["type"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"amount_minor": 0}, "amount_minor"),
        ({"amount_minor": -1}, "amount_minor"),
        ({"amount_minor": True}, "amount_minor"),
        ({"amount_minor": 1.5}, "amount_minor"),
        ({"amount_minor": None}, "amount_minor"),
        ({"currency": "usd"}, "currency"),
        ({"payment_method": "pm_1"}, "payment_method"),
        ({"payment_method": "tok_decline_no_such_code_1"}, "payment_method"),
        ({"payment_method": "tok_sim_nowhere_1"}, "payment_method"),
        ({"customer": ""}, "customer"),
        ({"reference": None}, "reference"),
        ({"reference": 7}, "reference"),
        ({"off_session": False}, "off_session"),
        ({"off_session": None}, "off_session"),
        ({"statement_descriptor": ""}, "statement_descriptor"),
        ({"metadata": None}, "metadata"),
        ({"metadata": {"invoice_id": "inv_1"}}, "metadata.attempt"),
        ({"extra": 1}, "extra"),
    ],
)
async def test_a_wrong_field_is_named_and_charges_nothing(
    bank: Bank, changed: dict[str, Any], field: str
) -> None:
    """A body against the contract is 400 invalid_request with the field; its key stays unused."""
    reply = await bank.call("POST", "/v1/charges", key="k1", json=charge_body(**changed))
    assert (reply.status, reply.error["type"], reply.error["field"]) == (
        400,
        "invalid_request",
        field,
    )
    assert (await bank.charge(key="k1")).status == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"amount_minor": NaN}'])
async def test_a_body_that_is_no_object_is_refused(bank: Bank, body: bytes) -> None:
    """What is not a JSON object is 400 invalid_request."""
    reply = await bank.call("POST", "/v1/charges", key="k1", data=body)
    assert (reply.status, reply.error["type"]) == (400, "invalid_request")
    assert bank.sandbox.charges() == []


@pytest.mark.parametrize("key", [None, "", "x" * 256])
async def test_the_idempotency_key_is_required_and_bounded(bank: Bank, key: str | None) -> None:
    """A POST without a key, or with one over 255 characters, is 400 and charges nothing."""
    reply = await bank.call("POST", "/v1/charges", key=key, json=charge_body())
    assert (reply.status, reply.error["field"]) == (400, "Idempotency-Key")
    assert bank.sandbox.charges() == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/charges"),
        ("GET", "/v1/charges/x"),
        ("GET", "/v1/charges"),
        ("POST", "/v1/refunds"),
        ("GET", "/v1/health"),
        ("POST", "/v1/clock"),
        ("GET", "/v1/sandbox/ledger"),
    ],
)
async def test_every_call_needs_the_bearer_key(bank: Bank, method: str, path: str) -> None:
    """A wrong key is 401 on every path."""
    reply = await bank.call(method, path, api_key="sk_wrong")
    assert (reply.status, reply.error["type"]) == (401, "unauthorized")


async def test_unknown_paths_and_methods(bank: Bank) -> None:
    """A path that is not in the contract is 404, a method that a path does not take 405."""
    assert (await bank.get("/v1/nothing")).status == 404
    assert (await bank.call("DELETE", "/v1/charges")).status == 405


async def test_health_tells_gateway_time(bank: Bank) -> None:
    """`/v1/clock` sets the time that health and everything after it tell; a bad instant is 400."""
    moved = await bank.call("POST", "/v1/clock", json={"now": "2026-03-01T13:00:00+01:00"})
    health = await bank.get("/v1/health")
    refused = await bank.call("POST", "/v1/clock", json={"now": "tomorrow"})
    assert moved.body == {"now": "2026-03-01T12:00:00.000000Z"}
    assert health.body == {"status": "ok", "now": "2026-03-01T12:00:00.000000Z"}
    assert (refused.status, refused.error["field"]) == (400, "now")
