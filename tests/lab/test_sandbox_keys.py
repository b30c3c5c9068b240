"""The sandbox gateway's idempotency keys."""

import asyncio
from datetime import UTC, datetime, timedelta

from tests.lab.bank import Bank
from tests.lab.conftest import OpenBank
from tests.worker.waiting import until

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def test_the_same_body_is_answered_from_the_store(bank: Bank) -> None:
    """Same key, same body: the first answer again, marked as replayed, and one charge."""
    first = await bank.charge(key="k1")
    again = await bank.charge(key="k1")
    assert (again.status, again.body) == (first.status, first.body)
    assert (first.is_replayed, again.is_replayed) == (False, True)
    assert bank.executed("k1") == 1


async def test_a_replay_repeats_the_first_answer_not_the_present_state(bank: Bank) -> None:
    """A charge that settled or was refunded since is still replayed as it was answered first."""
    bank.move_to(NOON)
    first = await bank.charge("tok_pending_ok_1", key="k1")
    bank.move_to(NOON + timedelta(hours=23))
    other = await bank.charge("tok_ok_1", key="k2")
    await bank.refund(other.body["id"], 500, key="r1")
    assert (await bank.charge("tok_pending_ok_1", key="k1")).body == first.body
    assert (await bank.charge("tok_ok_1", key="k2")).body == other.body


async def test_another_body_is_an_idempotency_error(bank: Bank) -> None:
    """Same key, other body: 400 idempotency_error, whatever differs, and nothing is charged."""
    await bank.charge(key="k1")
    for changed in ({"amount_minor": 2000}, {"reference": "inv_2"}, {"customer": "cus_2"}):
        reply = await bank.charge(key="k1", **changed)
        assert (reply.status, reply.error["type"]) == (400, "idempotency_error")
    assert len(bank.sandbox.charges()) == 1


async def test_a_key_belongs_to_one_call(bank: Bank) -> None:
    """A charge's key used for a refund is an idempotency_error as well."""
    charge = await bank.charge(key="k1")
    reply = await bank.refund(charge.body["id"], 100, key="k1")
    assert (reply.status, reply.error["type"]) == (400, "idempotency_error")


async def test_a_key_in_flight_is_a_conflict(open_bank: OpenBank) -> None:
    """Until the first answer has left, the same key is 409; afterwards it is replayed."""
    bank = await open_bank(faults={"latency": {"ms": 300}})
    first = asyncio.create_task(bank.charge(key="k1"))
    await until(bank.has_charged)
    during = await bank.charge(key="k1")
    answered = await first
    after = await bank.charge(key="k1")
    assert (during.status, during.error["type"]) == (409, "idempotency_key_in_use")
    assert (answered.status, after.is_replayed) == (200, True)
    assert bank.executed("k1") == 1


async def test_parallel_sends_of_one_key_charge_once(bank: Bank) -> None:
    """However many requests race with one key, one charge is executed."""
    replies = await asyncio.gather(*(bank.charge(key="k1") for _ in range(30)))
    assert {reply.status for reply in replies} <= {200, 409}
    assert bank.executed("k1") == 1


async def test_a_forgotten_key_is_a_new_charge(bank: Bank) -> None:
    """24 h of gateway time after its first use a key is unknown: the same request charges again."""
    bank.move_to(NOON)
    first = await bank.charge(key="k1")
    bank.move_to(NOON + timedelta(hours=24) - timedelta(seconds=1))
    assert (await bank.charge(key="k1")).is_replayed
    bank.move_to(NOON + timedelta(hours=24))
    second = await bank.charge(key="k1")
    assert not second.is_replayed
    assert second.body["id"] != first.body["id"]
    assert bank.executed("k1") == 2


async def test_key_lifetime_is_a_setting(open_bank: OpenBank) -> None:
    """`key_lifetime_hours` says when a key is forgotten."""
    bank = await open_bank(faults={"key_lifetime_hours": 2})
    bank.move_to(NOON)
    await bank.charge(key="k1")
    bank.move_to(NOON + timedelta(hours=2))
    assert not (await bank.charge(key="k1")).is_replayed


async def test_a_key_of_255_characters_is_taken(bank: Bank) -> None:
    """The longest key of the contract works."""
    assert (await bank.charge(key="k" * 255)).status == 200
