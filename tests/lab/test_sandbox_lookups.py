"""The sandbox gateway's look-ups: by id, key, reference and time, in pages, behind by the lag."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.lab.bank import Bank
from tests.lab.conftest import OpenBank

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def test_a_charge_is_found_by_id_key_and_reference(bank: Bank) -> None:
    """All three find the same charge; nothing else is listed with it."""
    charge = (await bank.charge(key="k1", reference="inv_1")).body
    await bank.charge(key="k2", reference="inv_2")
    assert (await bank.get(f"/v1/charges/{charge['id']}")).body == charge
    by_key = await bank.get("/v1/charges", idempotency_key="k1")
    by_reference = await bank.get("/v1/charges", reference="inv_1")
    assert by_key.body == by_reference.body == {"data": [charge], "next_cursor": None}


async def test_what_is_not_there(bank: Bank) -> None:
    """An unknown id is 404, an unknown key or reference an empty list."""
    unknown = await bank.get("/v1/charges/ch_none")
    assert (unknown.status, unknown.error["type"]) == (404, "not_found")
    assert await bank.keys_of_charges(idempotency_key="none") == []
    assert await bank.keys_of_charges(reference="none") == []


async def test_every_charge_of_a_reference_is_listed_in_order(bank: Bank) -> None:
    """Declined charges and the one that succeeded come oldest first."""
    token = "tok_seq_insufficient_funds-ok_1"
    await bank.charge(token, key="k1")
    await bank.charge(token, key="k2")
    listed = (await bank.get("/v1/charges", reference="inv_1")).body["data"]
    assert [charge["status"] for charge in listed] == ["declined", "succeeded"]


async def test_a_window_holds_its_start_and_not_its_end(bank: Bank) -> None:
    """created_from is inclusive, created_to exclusive, either may be missing."""
    for hour in range(4):
        bank.move_to(NOON + timedelta(hours=hour))
        await bank.charge(key=f"k{hour}")
    window = {"created_from": "2026-03-01T13:00:00Z", "created_to": "2026-03-01T15:00:00Z"}
    assert await bank.keys_of_charges(**window) == ["k1", "k2"]
    assert await bank.keys_of_charges(created_from="2026-03-01T14:00:00+00:00") == ["k2", "k3"]
    assert await bank.keys_of_charges(created_to=window["created_from"]) == ["k0"]
    assert await bank.keys_of_charges() == ["k0", "k1", "k2", "k3"]


async def test_pages_hold_every_charge_once(open_bank: OpenBank) -> None:
    """Following next_cursor lists all charges of a window, also those made at one instant."""
    bank = await open_bank(page_size=3)
    bank.move_to(NOON)
    for number in range(10):
        await bank.charge(key=f"k{number}")
    keys: list[str] = []
    cursor, pages = "", 0
    while cursor is not None:
        page = (
            await bank.get("/v1/charges", created_from="2026-03-01T00:00:00Z", cursor=cursor)
        ).body
        keys += [charge["idempotency_key"] for charge in page["data"]]
        cursor, pages = page["next_cursor"], pages + 1
    assert keys == [f"k{number}" for number in range(10)]
    assert pages == 4


async def test_charges_made_after_the_clock_went_back_keep_their_place(bank: Bank) -> None:
    """The list is sorted by creation also when the test clock was set back."""
    bank.move_to(NOON)
    await bank.charge(key="late")
    bank.move_to(NOON - timedelta(hours=1))
    await bank.charge(key="early")
    assert await bank.keys_of_charges() == ["early", "late"]


async def test_lists_lag_and_ids_do_not(open_bank: OpenBank) -> None:
    """Look-ups by key, reference and window show a charge lookup_lag_s after it was made."""
    bank = await open_bank(faults={"lookup_lag_s": 900})
    bank.move_to(NOON)
    charge = (await bank.charge(key="k1")).body
    for moment, seen in ((0, []), (899, []), (900, ["k1"])):
        bank.move_to(NOON + timedelta(seconds=moment))
        assert await bank.keys_of_charges(idempotency_key="k1") == seen
        assert await bank.keys_of_charges(reference="inv_1") == seen
        assert await bank.keys_of_charges(created_from="2026-03-01T00:00:00Z") == seen
        assert (await bank.get(f"/v1/charges/{charge['id']}")).status == 200


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"created_from": "yesterday"}, "created_from"),
        ({"created_to": "2026-03-01T12:00:00"}, "created_to"),
        ({"cursor": "abc"}, "cursor"),
        ({"charge": "ch_1"}, "charge"),
    ],
)
async def test_wrong_parameters_are_named(bank: Bank, params: dict[str, str], field: str) -> None:
    """A parameter that cannot be read or is not known is 400 with its name."""
    reply = await bank.get("/v1/charges", **params)
    assert (reply.status, reply.error["field"]) == (400, field)
