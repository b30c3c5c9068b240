"""The life of a charge, killed between every two lines: one charge, one invoice, one story told."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from asyncpg.exceptions import ConnectionDoesNotExistError
from asyncpg.transaction import Transaction

from billing.outcomes import ChargeOutcome
from tests.world import START, World
from worker import cases, settling
from worker.gateways.sandbox import SandboxGateway
from worker.store import changes, pace

PAID = ["invoice.paid", "subscription.renewed"]
FAILED = ["payment.failed", "subscription.past_due"]


class KilledError(BaseException):
    """The process is gone: nothing after this line happens."""


async def heal(world: World, *subs: str) -> None:
    """What the sweeps do after a crash: reconcile what was committed, ring what was not."""
    await world.walk()
    await world.execute("UPDATE subscription SET claimed_until = NULL")
    await world.renew(*subs)
    await world.walk()


Patch = Callable[[pytest.MonkeyPatch], list[str]]
"""Arms a crash; the list is not empty once it has struck."""


def killed(owner: object, name: str, *, afterwards: bool) -> Patch:
    """Kill the process before or after this coroutine, the first time it is called."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> list[str]:
        original = getattr(owner, name)
        struck: list[str] = []

        async def kill(*args: Any, **kwargs: Any) -> Any:
            struck.append(name)
            monkeypatch.setattr(owner, name, original)
            if afterwards:
                await original(*args, **kwargs)
            else:
                for argument in args:
                    close_all(argument)
            raise KilledError

        monkeypatch.setattr(owner, name, kill)
        return struck

    return patch


def close_all(argument: object) -> None:
    """Coroutines that a killed process had made are not to be warned of."""
    if isinstance(argument, list):
        for one in argument:
            if asyncio.iscoroutine(one):
                one.close()


def commit_unanswered(nth: int, *, committed: bool) -> Patch:
    """The connection breaks at the nth commit from now, after or before the server did it."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> list[str]:
        name = "_Transaction__commit"
        original = getattr(Transaction, name)
        struck: list[str] = []
        calls = 0

        async def commit(transaction: Transaction) -> None:
            nonlocal calls
            calls += 1
            if calls != nth or committed:
                await original(transaction)
            if calls == nth:
                struck.append(name)
                raise ConnectionDoesNotExistError("the connection was closed")

        monkeypatch.setattr(Transaction, name, commit)
        return struck

    return patch


T2, SETTLE = 1, 2
CRASHES = {
    "before T2 writes": killed(changes, "insert_attempts", afterwards=False),
    "before the pace is reserved": killed(pace, "reserve", afterwards=False),
    "before T2 commits": killed(pace, "reserve", afterwards=True),
    "after T2, before sending": killed(settling, "settle_as_they_come", afterwards=False),
    "before the request leaves": killed(SandboxGateway, "charge", afterwards=False),
    "after the gateway charged": killed(SandboxGateway, "charge", afterwards=True),
    "after the answer, before settling": killed(settling, "settle_group", afterwards=False),
    "while settling": killed(cases, "save", afterwards=False),
    "before settling commits": killed(cases, "save", afterwards=True),
    "while settling from memory": killed(cases, "save_plain", afterwards=False),
    "before settling from memory commits": killed(cases, "save_plain", afterwards=True),
    "after settling": killed(settling, "settle_group", afterwards=True),
    "T2 committed, unanswered": commit_unanswered(T2, committed=True),
    "T2 not committed, unanswered": commit_unanswered(T2, committed=False),
    "settling committed, unanswered": commit_unanswered(SETTLE, committed=True),
    "settling not committed, unanswered": commit_unanswered(SETTLE, committed=False),
}


@pytest.mark.parametrize("where", CRASHES)
async def test_a_crash_anywhere_costs_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Two approved and one declined: each is tried once at the gateway and told once."""
    good = [await world.subscribe(f"tok_ok_{n}") for n in range(2)]
    bad = await world.subscribe("tok_decline_insufficient_funds_1")
    with monkeypatch.context() as patched:
        struck = CRASHES[where](patched)
        with contextlib.suppress(KilledError):
            await world.renew(*good, bad)
    assert len(struck) == 1
    assert await world.broken() == []
    await heal(world, *good, bad)
    assert len(world.sandbox.charges()) == 3
    assert set(world.taken().values()) == {1}
    assert [await world.told(sub) for sub in (*good, bad)] == [PAID, PAID, FAILED]
    assert await world.broken(with_ledger=True) == []


AGAIN = [
    "before the request leaves",
    "after the gateway charged",
    "after the answer, before settling",
    "before settling commits",
    "T2 committed, unanswered",
    "T2 not committed, unanswered",
    "settling committed, unanswered",
    "settling not committed, unanswered",
]


@pytest.mark.parametrize("where", AGAIN)
async def test_a_crash_while_reconciling_costs_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The attempt stays what it was, and the next look takes it up under the same key."""
    sub = await world.subscribe()
    with monkeypatch.context() as patched:
        CRASHES["after T2, before sending"](patched)
        with contextlib.suppress(KilledError):
            await world.renew(sub)
    assert (await world.row("attempt"))["state"] == "sent"
    with monkeypatch.context() as patched:
        struck = CRASHES[where](patched)
        with contextlib.suppress(KilledError):
            await world.reconcile()
    assert len(struck) == 1
    await heal(world, sub)
    assert await world.told(sub) == PAID
    assert set(world.taken().values()) == {1}
    assert await world.broken() == []


@pytest.mark.parametrize("where", ["T2 committed, unanswered", "settling committed, unanswered"])
async def test_a_lost_commit_answer_is_read_again_and_the_charge_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """What is there under our fence is sent by the same process: nothing is left to reconcile."""
    sub = await world.subscribe()
    with monkeypatch.context() as patched:
        struck = CRASHES[where](patched)
        await world.renew(sub)
    assert len(struck) == 1
    assert await world.told(sub) == PAID


async def test_a_lost_commit_that_did_not_happen_gives_the_rows_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sent, and no lease holds the rows."""
    sub = await world.subscribe()
    await world.execute("UPDATE subscription SET claimed_until = 'infinity', claims = 1")
    with monkeypatch.context() as patched:
        commit_unanswered(T2, committed=False)(patched)
        await world.renew(sub)
    row = await world.row("subscription")
    assert (row["claimed_until"], row["claims"], row["next_renewal_at"]) == (None, 1, START)
    assert world.sandbox.charges() == []


async def test_an_overflow_is_parked_alone_and_its_neighbours_are_charged(world: World) -> None:
    """A row that Postgres refuses is found by halving; no call is made twice for it."""
    asked: list[str] = []
    gateway = world.context.gateways["sandbox"]
    charge = gateway.charge

    async def counted(*, request: bytes, key: str) -> ChargeOutcome:
        asked.append(key)
        return await charge(request=request, key=key)

    gateway.charge = counted  # type: ignore[method-assign]
    good = [await world.subscribe(f"tok_ok_{n}") for n in range(7)]
    huge = await world.plan(amount_minor=10**18)
    bad = await world.subscribe("tok_ok_bad", plan=huge)
    await world.execute("UPDATE subscription SET quantity = 100 WHERE subscription_id = $1", bad)
    await world.execute("UPDATE price_version SET model = 'per_unit' WHERE plan_id = $1", huge)
    await world.renew(*good[:4], bad, *good[4:])
    parked = await world.row("parked")
    assert (parked["kind"], parked["id"], parked["due_at"]) == ("renewal", bad, START)
    assert len(asked) == len(set(asked)) == 7
    assert await world.broken() == []


async def test_a_method_at_another_gateway_is_never_charged_here(world: World) -> None:
    """Whatever went wrong before: a token goes to its own gateway or nowhere."""
    good, bad = await world.subscribe("tok_ok_1"), await world.subscribe("tok_ok_2")
    await world.execute(
        "UPDATE payment_method SET gateway = 'other' WHERE payment_method_id = $1", f"pm_{bad}"
    )
    await world.renew(good, bad)
    parked = await world.row("parked")
    assert (parked["id"], parked["reason"]) == (
        bad,
        "AssertionError: the payment method is at another gateway",
    )
    assert len(world.sandbox.charges()) == 1


WORKERS_END = (
    "NoProgressError: Claimed five times without progress: it may have taken the worker with it."
)


async def test_a_renewal_claimed_a_fifth_time_is_parked(world: World) -> None:
    """Four leases ran out on it: it is not tried again, and its neighbours are."""
    good, bad = await world.subscribe("tok_ok_1"), await world.subscribe("tok_ok_2")
    await world.execute("UPDATE subscription SET claims = 3")
    await world.execute("UPDATE subscription SET claims = 4 WHERE subscription_id = $1", bad)
    await world.renew(good, bad)
    parked = await world.row("parked")
    assert (parked["kind"], parked["id"], parked["reason"]) == ("renewal", bad, WORKERS_END)
    row = await world.row("subscription", subscription_id=good)
    assert (row["status"], row["claims"]) == ("active", 0)
    assert len(world.sandbox.charges()) == 1
    assert await world.broken() == []


async def test_a_retry_claimed_a_fifth_time_is_parked(world: World) -> None:
    """Likewise for an open invoice; one that is not due is left as it is."""
    await world.renew(await world.subscribe("tok_decline_insufficient_funds_1"))
    invoice = await world.row("invoice")
    await world.execute("UPDATE invoice SET claims = 4")
    await world.collect(invoice["invoice_id"])
    assert await world.fetch("SELECT * FROM parked") == []
    await world.set_now(invoice["attempt_due_at"])
    await world.collect(invoice["invoice_id"])
    parked = await world.row("parked")
    assert (parked["kind"], parked["reason"]) == ("collection", WORKERS_END)
    row = await world.row("invoice")
    assert (row["attempt_due_at"], row["hold_reason"]) == (None, "parked")
    assert len(world.sandbox.charges()) == 1
    assert await world.broken() == []


@pytest.mark.parametrize("busy", ["pace", "seats"])
async def test_a_busy_gateway_gives_the_batch_back_unsent(world: World, busy: str) -> None:
    """Nothing is committed, no lease holds the rows, and what ran out before still counts."""
    sub = await world.subscribe()
    await world.execute("UPDATE subscription SET claimed_until = 'infinity', claims = 2")
    seats = world.context.seats
    if busy == "pace":
        await world.execute("UPDATE gateway_state SET free_at = clock_timestamp() + '12 seconds'")
    else:
        while seats.take("sandbox"):
            pass
    await world.renew(sub)
    row = await world.row("subscription")
    assert (row["claimed_until"], row["claims"], row["next_renewal_at"]) == (None, 2, START)
    assert await world.value("SELECT count(*) FROM invoice") == 0
    assert world.sandbox.charges() == []
