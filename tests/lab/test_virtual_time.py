"""The test clock on a real Postgres, with a worker on a StubBroker and a sandbox gateway."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lab import stepping
from lab.demo.house import House, open_house
from lab.sandbox import Fault, FaultPlan, Latency, SandboxFaults
from scheduler.store import due
from scheduler.store.due import OpenWork
from tests import platform_events as events
from worker import embedded
from worker.db import Connection
from worker.store import control

NOW = events.NOW
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
PARK = """
INSERT INTO parked (kind, id, subscription_id, reason, at)
SELECT 'attempt', invoice_id || ':' || ordinal, subscription_id, 'a bug', claimed_at FROM attempt
"""


@pytest.fixture
async def house(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    """A renewd in one process whose clock stands at `NOW`, and a school with one plan."""
    monkeypatch.setattr(embedded, "POLL_MS", 50)  # its threads end sooner
    async with open_house(database_url, seed=1) as opened:
        await opened.set_clock(NOW)
        await opened.deliver([events.seller(), events.plan(), events.customer()], now=NOW)
        yield opened


async def subscribe(house: House, **paid_through: datetime) -> None:
    """A subscription for each token, its first renewal at the instant given."""
    for n, (token, at) in enumerate(paid_through.items()):
        created = events.created(
            f"sub_{n}", payment_method_id=f"pm_{n}", paid_through=f"{at:%FT%TZ}"
        )
        method = events.method(f"pm_{n}", token=f"{token.replace('__', '-')}_{n}")
        await house.deliver([method, created], now=NOW)


async def steps_of(house: House, target: datetime, **options: Any) -> list[datetime]:
    """The instants at which the clock stopped on its way to `target`."""
    steps: list[datetime] = []

    async def note(now: datetime) -> None:
        steps.append(now)

    assert await house.advance(target, on_step=note, **options) == len(steps)
    return steps


async def claims_of(conn: Connection, subscription_id: str = "sub_0") -> list[datetime]:
    rows = await conn.fetch(
        "SELECT claimed_at FROM attempt WHERE subscription_id = $1 ORDER BY claimed_at",
        subscription_id,
    )
    return [row["claimed_at"] for row in rows]


async def test_every_due_instant_is_stopped_at(house: House) -> None:
    """Renewals are charged at their own instants, and the clock arrives at its target."""
    first, second, target = NOW + HOUR, NOW + 2 * DAY, NOW + 2 * DAY + HOUR
    await subscribe(house, tok_ok_a=second, tok_ok_b=first, tok_ok_c=second)
    steps = await steps_of(house, target)
    assert steps == [first, second, target]
    assert await claims_of(house.conn, "sub_1") == [first]
    assert await claims_of(house.conn, "sub_0") == await claims_of(house.conn, "sub_2") == [second]
    assert await control.read_now(house.conn) == target


async def test_a_decline_lives_through_its_ladder(house: House) -> None:
    """Retries come on the days of the schedule to the second, and the mail at once."""
    await subscribe(house, tok_seq_insufficient_funds__insufficient_funds__ok=NOW + HOUR)
    await house.advance(NOW + 10 * DAY)
    first = NOW + HOUR
    assert await claims_of(house.conn) == [first, first + DAY, first + 3 * DAY]
    mail = await house.conn.fetchrow("SELECT * FROM notice WHERE kind = 'payment_failed'")
    assert mail is not None
    assert (mail["state"], mail["settled_at"]) == ("sent", first)
    paid = await house.conn.fetchrow("SELECT * FROM invoice")
    assert paid is not None
    assert (paid["status"], paid["recovered_by"]) == ("paid", "retry")


async def test_reminders_leave_at_their_instant(house: House) -> None:
    """A reminder is sent three days before its renewal, not when somebody happens to look."""
    await house.deliver(
        [
            events.plan("plan_2", reminders=[{"days_before": 3}]),
            events.method(),
            events.created(plan_id="plan_2", paid_through=f"{NOW + 10 * DAY:%FT%TZ}"),
        ],
        now=NOW,
    )
    steps = await steps_of(house, NOW + 8 * DAY)
    assert steps == [NOW + 7 * DAY, NOW + 8 * DAY]
    sent = await house.conn.fetchval("SELECT settled_at FROM notice WHERE state = 'sent'")
    assert sent == NOW + 7 * DAY
    assert house.mailbox.sent == 1


async def test_no_outcome_comes_after_its_instant(house: House) -> None:
    """However slow the gateway, a charge is settled before time moves, and both clocks agree."""
    slow = SandboxFaults(latency=Latency(ms=60))
    house.sandbox.set_faults(FaultPlan(faults=slow))
    await subscribe(house, **{f"tok_ok_{n}": NOW + n * HOUR for n in range(1, 8)})
    await house.advance(NOW + DAY)
    late = "SELECT count(*) FROM attempt WHERE resolved_at <> claimed_at OR state <> 'succeeded'"
    assert await house.conn.fetchval(late) == 0
    made = {charge["created_at"] for charge in house.sandbox.charges()}
    assert made == {f"{NOW + n * HOUR:%FT%T}.000000Z" for n in range(1, 8)}


async def test_jump_is_one_step(house: House) -> None:
    """After a jump what was missed is caught up with at the target, as after a downtime."""
    await subscribe(house, tok_ok=NOW + HOUR)
    target = NOW + 70 * DAY
    assert await steps_of(house, target, jump=True) == [target]
    assert await claims_of(house.conn) == [target]
    skipped = await house.conn.fetchval("SELECT count(*) FROM period_skip")
    billed = await house.conn.fetchval("SELECT count(*) FROM invoice WHERE status = 'paid'")
    assert (skipped, billed) == (2, 1)


async def test_many_instants_are_fewer_steps(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """With more rows to come than steps allowed, instants close together are one step."""
    monkeypatch.setattr(stepping, "STEPS_AT_MOST", 4)
    await subscribe(house, **{f"tok_ok_{n}": NOW + n * HOUR for n in range(1, 12)})
    steps = await steps_of(house, NOW + 12 * HOUR)
    assert steps == [NOW + 4 * HOUR, NOW + 8 * HOUR, NOW + 11 * HOUR, NOW + 12 * HOUR]
    assert await claims_of(house.conn, "sub_0") == [NOW + 4 * HOUR]


async def test_a_caller_is_woken(house: House) -> None:
    """The clock also stops where its caller has something to do, once each time."""
    wanted = [NOW + 5 * HOUR, NOW + 9 * HOUR]
    heard: list[datetime] = []

    async def note(now: datetime) -> None:
        heard.append(now)

    def next_wish() -> datetime | None:
        return next((at for at in wanted if at not in heard), None)

    await house.advance(NOW + DAY, on_step=note, wake_at=next_wish)
    assert heard == [*wanted, NOW + DAY]


async def test_work_that_a_step_brings_is_finished(house: House) -> None:
    """What a message makes due at an instant is charged at that instant."""
    await house.deliver([events.method()], now=NOW)

    async def sign_up(now: datetime) -> None:
        await house.deliver([events.created(at=now)], now=now)

    await house.advance(NOW + DAY, on_step=sign_up)
    assert await claims_of(house.conn, "sub_1") == [NOW + DAY]


async def test_a_kill_switch_holds_no_clock_up(house: House) -> None:
    """What is paused stays due, and time goes on; once resumed it is charged."""
    await subscribe(house, tok_ok=NOW + HOUR)
    async with house.conn.transaction():
        await control.pause(house.conn, scope="global", scope_id="", reason="test", who="ana")
    await house.advance(NOW + DAY)
    assert await claims_of(house.conn) == []
    async with house.conn.transaction():
        await control.resume(house.conn, scope="global", scope_id="", reason="test", who="ana")
    await house.advance(NOW + 2 * DAY)
    assert await claims_of(house.conn) == [NOW + DAY]


@pytest.mark.parametrize(
    "waiting",
    [
        # asked three times: the gateway's turn, on machine time
        "UPDATE attempt SET checks = 3",
        # frozen: a person's turn
        "UPDATE attempt SET check_due_at = NULL, needs_human = 'a bug'",
        # nothing of the outcome is known, but it is to be read again only tomorrow
        "UPDATE attempt SET check_due_at = check_due_at + interval '1 day'",
        # parked: a person's turn
        PARK,
        # a gateway that these settings know nothing of
        "UPDATE attempt SET gateway = 'elsewhere'",
    ],
)
async def test_what_waits_for_others_holds_no_clock_up(house: House, waiting: str) -> None:
    """An unknown outcome that is not ours to find out does not count as on its way."""
    silent = SandboxFaults(rates={Fault.RESET: 1})
    house.sandbox.set_faults(FaultPlan(faults=silent))
    await subscribe(house, tok_ok=NOW)
    await house.jobs.sweep_all()
    unknown = "SELECT count(*) FROM attempt WHERE state = 'unknown'"
    await until(house, unknown, 1)
    assert [work.kind for work in await open_work(house)] == ["unsettled"]
    await house.conn.execute(waiting)
    assert await open_work(house) == []
    await house.advance(NOW + HOUR)


async def until(house: House, statement: str, figure: int) -> None:
    """Wait for the worker; pytest's timeout ends it if that never comes."""
    while await house.conn.fetchval(statement) != figure:
        await house.pump([])


async def open_work(house: House) -> list[OpenWork]:
    now = await control.read_now(house.conn)
    return await due.count_open(house.conn, now=now, gateways=house.context.gateways)


async def test_a_mail_on_its_way_is_waited_for(house: House) -> None:
    """A notice whose sender was lost is finished before time moves on."""
    await subscribe(house, tok_decline_insufficient_funds=NOW)
    await house.advance(NOW + HOUR)
    await house.conn.execute(
        "UPDATE notice SET state = 'sending', settled_at = NULL, claimed_until = '-infinity'"
    )
    assert [work.sweep for work in await open_work(house)] == ["half_sent"]
    await house.advance(NOW + 2 * HOUR, jump=True)
    mail = await house.conn.fetchrow("SELECT * FROM notice")
    assert mail is not None
    assert (mail["state"], mail["settled_at"]) == ("sent", NOW + HOUR)


async def test_a_stall_says_what_is_left(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing moves for two minutes, one line names what is due and whether a worker runs."""
    monkeypatch.setattr(stepping, "STALL_SECONDS", 0.2)
    await subscribe(house, tok_ok_a=NOW + HOUR, tok_ok_b=NOW + HOUR)

    async def idle(work: Sequence[OpenWork]) -> None:
        assert work

    with pytest.raises(stepping.ClockStalledError) as raised:
        await stepping.advance(
            house.conn, target=NOW + DAY, gateways=house.context.gateways, pump=idle
        )
    assert str(raised.value) == (
        "the clock stands at 2026-01-31T11:00:00Z: for 0 s nothing of what is due has moved "
        "(2 renewals); a worker is connected"
    )
    assert raised.value.exit_code == 1


async def test_a_stall_says_that_nobody_works(
    database_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any worker the line says so."""
    monkeypatch.setattr(stepping, "STALL_SECONDS", 0.1)
    async with open_house(database_url, seed=1) as house:
        await house.set_clock(NOW)
        at = f"{NOW:%FT%TZ}"
        await house.deliver(events.sign_up(paid_through=at), now=NOW)
        gateways = house.context.gateways
    while await due.count_workers(conn):
        pass

    async def idle(work: Sequence[OpenWork]) -> None:
        assert work

    with pytest.raises(stepping.ClockStalledError, match="no worker seems to be running"):
        await stepping.advance(conn, target=NOW + DAY, gateways=gateways, pump=idle)


async def test_time_stops_before_it_is_moved(house: House) -> None:
    """Real time is stopped where it is, for the gateways as well, and only once."""
    await house.conn.execute("UPDATE control SET clock_now = NULL")
    before = await control.read_now(house.conn)
    stood = await stepping.stand_still(house.conn, house.context.gateways)
    assert before <= stood <= datetime.now(UTC)
    assert await control.read_now(house.conn) == stood
    assert await stepping.stand_still(house.conn, house.context.gateways) == stood
