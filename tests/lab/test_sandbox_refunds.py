"""The sandbox gateway's refunds."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.lab.bank import API_KEY, Bank, charge_body
from tests.lab.conftest import OpenBank

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def test_a_refund_has_the_shape_of_the_contract(bank: Bank) -> None:
    """It echoes charge, amount and key, and its charge tells the refunded sum."""
    bank.move_to(NOON)
    charge_id = (await bank.charge()).body["id"]
    refund = await bank.refund(charge_id, 700, key="r1")
    charge = await bank.get(f"/v1/charges/{charge_id}")
    assert refund.status == 200
    assert refund.body == {
        "id": refund.body["id"],
        "charge": charge_id,
        "status": "succeeded",
        "amount_minor": 700,
        "idempotency_key": "r1",
        "created_at": "2026-03-01T12:00:00.000000Z",
    }
    assert (charge.body["status"], charge.body["amount_refunded_minor"]) == ("succeeded", 700)


async def test_a_refund_is_idempotent(bank: Bank) -> None:
    """Same key: the stored answer, one refund; another amount under it is an idempotency_error."""
    charge_id = (await bank.charge()).body["id"]
    first = await bank.refund(charge_id, 700, key="r1")
    again = await bank.refund(charge_id, 700, key="r1")
    other = await bank.refund(charge_id, 701, key="r1")
    assert (again.body, again.is_replayed) == (first.body, True)
    assert (other.status, other.error["type"]) == (400, "idempotency_error")
    assert (await bank.get(f"/v1/charges/{charge_id}")).body["amount_refunded_minor"] == 700


async def test_refunds_never_exceed_what_was_captured(bank: Bank) -> None:
    """The sum of refunds stops at the charge's amount, to the minor unit."""
    charge_id = (await bank.charge()).body["id"]
    assert (await bank.refund(charge_id, 1500, key="r1")).status == 200
    over = await bank.refund(charge_id, 500, key="r2")
    assert (over.status, over.error["field"]) == (400, "amount_minor")
    assert (await bank.refund(charge_id, 499, key="r3")).status == 200


@pytest.mark.parametrize("token", ["tok_decline_do_not_honor_1", "tok_pending_ok_1"])
async def test_nothing_is_refunded_of_what_took_nothing(bank: Bank, token: str) -> None:
    """Only a succeeded charge can be refunded; an unknown one is 404."""
    charge_id = (await bank.charge(token)).body["id"]
    assert (await bank.refund(charge_id, 1, key="r1")).status == 400
    assert (await bank.refund("ch_none", 1, key="r2")).status == 404


async def test_refunds_are_found_by_id_key_charge_and_time(bank: Bank) -> None:
    """All look-ups of the contract find the same refund."""
    bank.move_to(NOON)
    charge_id = (await bank.charge()).body["id"]
    refund = (await bank.refund(charge_id, 700, key="r1")).body
    assert (await bank.get(f"/v1/refunds/{refund['id']}")).body == refund
    assert (await bank.get("/v1/refunds/re_none")).status == 404
    found = {"data": [refund], "next_cursor": None}
    assert (await bank.get("/v1/refunds", idempotency_key="r1")).body == found
    assert (await bank.get("/v1/refunds", charge=charge_id)).body == found
    assert (await bank.get("/v1/refunds", created_from="2026-03-01T12:00:00Z")).body == found
    later = "2026-03-01T12:00:01Z"
    assert (await bank.get("/v1/refunds", created_from=later)).body["data"] == []


async def test_refund_look_ups_lag_as_well(open_bank: OpenBank) -> None:
    """A refund is listed lookup_lag_s after it was made."""
    bank = await open_bank(faults={"lookup_lag_s": 60})
    bank.move_to(NOON)
    charge_id = (await bank.charge()).body["id"]
    await bank.refund(charge_id, 700, key="r1")
    assert (await bank.get("/v1/refunds", charge=charge_id)).body["data"] == []
    bank.move_to(NOON + timedelta(seconds=60))
    assert len((await bank.get("/v1/refunds", charge=charge_id)).body["data"]) == 1


async def test_a_refund_key_is_the_only_one_that_refunds(open_bank: OpenBank) -> None:
    """With refund_api_key set, the charging key may not refund, nor the refund key charge."""
    bank = await open_bank(refund_api_key="sk_refund")
    charge_id = (await bank.charge()).body["id"]
    body = {"charge": charge_id, "amount_minor": 1}
    with_charging = await bank.call("POST", "/v1/refunds", key="r1", json=body, api_key=API_KEY)
    with_refund = await bank.call("POST", "/v1/refunds", key="r1", json=body, api_key="sk_refund")
    charging = await bank.call(
        "POST", "/v1/charges", key="k9", json=charge_body(), api_key="sk_refund"
    )
    assert (with_charging.status, with_refund.status, charging.status) == (401, 200, 401)
