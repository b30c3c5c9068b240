"""The sandbox gateway's faults: what the client sees, what was charged, what a resend meets."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest

from lab.sandbox import FaultPlan, SandboxFaults
from tests.lab.bank import Bank
from tests.lab.conftest import OpenBank

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def send(bank: Bank, key: str, *, token: str = "tok_ok_1") -> str:
    """What a client with little patience sees of a charge."""
    try:
        reply = await bank.charge(token, key=key, timeout_s=0.8)
    except TimeoutError:
        return "timeout"
    except aiohttp.ContentTypeError:
        return "not json"
    except aiohttp.ClientConnectionError:
        return "reset"
    return f"{'replayed ' if reply.is_replayed else ''}{reply.status}"


@pytest.mark.parametrize(
    ("fault", "first", "resent"),
    [
        # a stored 5xx never changes, charged or not
        ("error_500", ("500", 0), ("replayed 500", 0)),
        ("error_502", ("502", 0), ("replayed 502", 0)),
        ("error_503", ("503", 0), ("replayed 503", 0)),
        ("charge_then_500", ("500", 1), ("replayed 500", 1)),
        ("charge_then_502", ("502", 1), ("replayed 502", 1)),
        ("charge_then_503", ("503", 1), ("replayed 503", 1)),
        # nothing arrived: the resend is the first request
        ("rate_limited", ("429", 0), ("200", 1)),
        ("reset", ("reset", 0), ("200", 1)),
        ("silence", ("timeout", 0), ("200", 1)),
        ("not_json", ("not json", 0), ("200", 1)),
        # the answer was lost: the resend finds it
        ("charge_then_reset", ("reset", 1), ("replayed 200", 1)),
        ("charge_then_silence", ("timeout", 1), ("replayed 200", 1)),
        ("charge_then_not_json", ("not json", 1), ("replayed 200", 1)),
        ("slow_drip", ("timeout", 1), ("replayed 200", 1)),
        # the gateway breaks its own promise
        ("execute_twice", ("200", 2), ("replayed 200", 2)),
        # late: executed 20 minutes of gateway time later, unless a resend was first
        ("late_silence", ("timeout", 0), ("200", 1)),
        ("late_500", ("500", 0), ("replayed 500", 0)),
    ],
)
async def test_each_fault(
    bank: Bank, fault: str, first: tuple[str, int], resent: tuple[str, int]
) -> None:
    """What is seen and how many charges the ledger holds; both again after a resend without it."""
    bank.meet(rates={fault: 1})
    assert (await send(bank, "k1"), bank.executed("k1")) == first
    bank.meet()
    assert (await send(bank, "k1"), bank.executed("k1")) == resent


async def test_too_many_requests_say_when_to_come_back(bank: Bank) -> None:
    """429 carries Retry-After in seconds."""
    bank.meet(rates={"rate_limited": 1}, retry_after_s=7)
    reply = await bank.charge(key="k1")
    assert (reply.status, reply.headers["Retry-After"]) == (429, "7")


async def test_a_wrong_amount_is_echoed_once(bank: Bank) -> None:
    """The charge is right in the ledger and in the replay; the first answer says another amount."""
    bank.meet(rates={"wrong_amount": 1})
    first = await bank.charge(key="k1")
    bank.meet()
    assert first.body["amount_minor"] == 2000
    assert (await bank.charge(key="k1")).body["amount_minor"] == 1999


async def test_a_huge_body_is_over_a_megabyte(bank: Bank) -> None:
    """The answer is valid JSON that is longer than the contract's client reads."""
    bank.meet(rates={"huge_body": 1})
    reply = await bank.charge(key="k1")
    assert int(reply.headers["Content-Length"]) > 1_000_000


async def test_a_slow_drip_comes_whole_in_the_end(bank: Bank) -> None:
    """A patient client gets the whole answer."""
    bank.meet(rates={"slow_drip": 1}, drip_bytes_per_s=4000)
    reply = await bank.charge(key="k1")
    assert (reply.status, reply.body["status"]) == (200, "succeeded")


@pytest.mark.parametrize(("fault", "stored"), [("late_silence", 200), ("late_500", 500)])
async def test_a_late_request_is_executed_in_gateway_time(
    bank: Bank, fault: str, stored: int
) -> None:
    """It is charged late_minutes later, dated so, and the key answers as it did or would have."""
    bank.move_to(NOON)
    bank.meet(rates={fault: 1}, late_minutes=30)
    await send(bank, "k1")
    bank.meet()
    bank.move_to(NOON + timedelta(minutes=29))
    assert bank.executed("k1") == 0
    bank.move_to(NOON + timedelta(hours=3))
    [charge] = bank.sandbox.charges()
    assert charge["created_at"] == "2026-03-01T12:30:00.000000Z"
    assert await send(bank, "k1") == f"replayed {stored}"
    assert bank.executed("k1") == 1


async def test_a_late_request_finds_its_key_used(bank: Bank) -> None:
    """A resend that was faster is the only charge, unless the key was forgotten meanwhile."""
    bank.move_to(NOON)
    bank.meet(rates={"late_silence": 1}, late_minutes=60)
    await send(bank, "resent")
    await send(bank, "forgotten")
    bank.meet()
    await bank.charge(key="resent")
    await bank.charge(key="forgotten")
    bank.meet(key_lifetime_hours=0.5)
    bank.move_to(NOON + timedelta(hours=1))
    assert bank.executed("forgotten") == 2
    bank.meet()
    assert await send(bank, "resent") == "replayed 200"


async def test_5xx_can_be_left_unstored(bank: Bank) -> None:
    """With stores_5xx off a resend is worked on anew, and still no money moves twice."""
    bank.meet(rates={"error_500": 0.5, "charge_then_500": 0.5}, stores_5xx=False)
    keys = [f"k{number}" for number in range(20)]
    assert {await send(bank, key) for key in keys} == {"500"}
    charged = sum(bank.executed(key) for key in keys)
    bank.meet()
    resent = [await send(bank, key) for key in keys]
    assert 0 < charged < 20
    assert (resent.count("replayed 200"), resent.count("200")) == (charged, 20 - charged)
    assert [bank.executed(key) for key in keys] == [1] * 20


@pytest.mark.parametrize(
    ("answer", "seen"), [("503", "503"), ("reset", "reset"), ("silence", "timeout")]
)
async def test_an_outage_is_a_window_of_gateway_time(bank: Bank, answer: str, seen: str) -> None:
    """Inside it nothing reaches the gateway, look-ups included; after it the same key is new."""
    bank.meet(outages=[{"starts_at": NOON, "ends_at": NOON + timedelta(hours=1), "answer": answer}])
    bank.move_to(NOON - timedelta(seconds=1))
    assert await send(bank, "before") == "200"
    bank.move_to(NOON)
    assert await send(bank, "k1") == seen
    if answer == "503":
        assert (await bank.get("/v1/charges", idempotency_key="before")).status == 503
    bank.move_to(NOON + timedelta(hours=1))
    assert await send(bank, "k1") == "200"


async def test_faults_follow_the_longest_token_prefix(bank: Bank) -> None:
    """The faults of a prefix stand instead of the ones for everything."""
    bank.sandbox.set_faults(
        FaultPlan(
            faults=SandboxFaults.model_validate({"rates": {"error_500": 1}}),
            faults_by_prefix={
                "tok_ok_": SandboxFaults(),
                "tok_ok_bad_": SandboxFaults.model_validate({"rates": {"error_503": 1}}),
            },
        )
    )
    tokens = ("tok_ok_1", "tok_ok_bad_1", "tok_decline_do_not_honor_1")
    assert [await send(bank, token, token=token) for token in tokens] == ["200", "503", "500"]


async def test_the_same_seed_meets_the_same_faults(open_bank: OpenBank) -> None:
    """Faults depend on seed, key and which request of the key it is, not on order or time."""
    rates = {"error_500": 0.2, "reset": 0.2, "charge_then_reset": 0.2, "rate_limited": 0.2}
    keys = [f"key-{number}" for number in range(40)]

    async def story(seed: int, order: list[str]) -> dict[str, list[str]]:
        bank = await open_bank(seed=seed, faults={"rates": rates})
        seen: dict[str, list[str]] = {key: [] for key in keys}
        for _ in range(2):
            for key in order:
                seen[key].append(await send(bank, key))
        return seen

    one = await story(1, keys)
    assert await story(1, keys[::-1]) == one
    assert await story(2, keys) != one
    assert len({seen[0] for seen in one.values()}) > 3
    assert any(seen[0] != seen[1] for seen in one.values())


async def test_fault_rates_are_kept(open_bank: OpenBank) -> None:
    """A rate is the share of requests that meet the fault."""
    bank = await open_bank(faults={"rates": {"error_500": 0.1, "rate_limited": 0.3}})
    replies = [(await bank.charge()).status for _ in range(1000)]
    assert 70 <= replies.count(500) <= 130
    assert 255 <= replies.count(429) <= 345


async def test_look_ups_can_fail_too(bank: Bank) -> None:
    """read_rates strike GET and cancel, change nothing, and leave POST alone."""
    charge_id = (await bank.charge("tok_pending_ok_1")).body["id"]
    bank.meet(read_rates={"error_503": 1})
    assert (await bank.get(f"/v1/charges/{charge_id}")).status == 503
    assert (await bank.get("/v1/charges", reference="inv_1")).status == 503
    assert (await bank.call("POST", f"/v1/charges/{charge_id}/cancel")).status == 503
    assert (await bank.charge()).status == 200
    bank.meet()
    assert (await bank.get(f"/v1/charges/{charge_id}")).body["status"] == "pending"


@pytest.mark.parametrize(
    ("latency", "shortest_s", "longest_s"),
    [
        ({"kind": "fixed", "ms": 120}, 0.12, 0.25),
        ({"kind": "uniform", "ms": 50, "max_ms": 150}, 0.05, 0.28),
        ({"kind": "lognormal", "ms": 80, "sigma": 0.4, "max_ms": 150}, 0.01, 0.28),
    ],
)
async def test_answers_take_their_latency(
    bank: Bank, latency: dict[str, object], shortest_s: float, longest_s: float
) -> None:
    """Every answer takes its drawn time, and many wait at once."""
    bank.meet(latency=latency)

    async def timed(key: str) -> float:
        before = time.monotonic()
        await bank.charge(key=key)
        return time.monotonic() - before

    seconds = await asyncio.gather(*(timed(f"k{number}") for number in range(20)))
    assert min(seconds) >= shortest_s
    assert max(seconds) <= longest_s + 0.5


async def test_faults_change_at_run_time_over_http(bank: Bank) -> None:
    """PUT /v1/sandbox/faults replaces the plan and answers it; nonsense is 400 with its field."""
    plan = {"faults": {"rates": {"error_500": 1}}, "faults_by_prefix": {"tok_ok_": {}}}
    put = await bank.call("PUT", "/v1/sandbox/faults", json=plan)
    assert put.body["faults"]["rates"] == {"error_500": 1}
    assert (await bank.get("/v1/sandbox/faults")).body == put.body
    assert await send(bank, "k1", token="tok_decline_do_not_honor_1") == "500"
    for rates, field in (({"rates": {"error_418": 1}}, "faults.rates.error_418"),
                         ({"rates": {"reset": 0.6, "silence": 0.6}}, "faults"),
                         ({"read_rates": {"charge_then_500": 1}}, "faults"),
                         ({"latency": {"ms": -1}}, "faults.latency.ms")):  # fmt: skip
        refused = await bank.call("PUT", "/v1/sandbox/faults", json={"faults": rates})
        assert refused.status == 400
        assert refused.error["field"].startswith(field)
