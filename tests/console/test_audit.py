"""`renewd audit`: green while all is well, red with names when it is not."""

import json
from datetime import timedelta

import pytest

from lab.sandbox import RunningSandbox
from scheduler.invariants import INVARIANTS
from tests.console.command import renewd
from tests.world import API_KEY, GATEWAY, START, World

SOFT = "tok_decline_insufficient_funds_1"


async def test_a_good_database_is_green(world: World) -> None:
    """Every invariant that needs no ledger is checked, is ok, and exits with 0."""
    await world.renew(await world.subscribe(), await world.subscribe(SOFT))
    ran = await renewd("audit", "--json")
    assert (ran.code, ran.err, ran.json["ok"]) == (0, "", True)
    checked = [found["name"] for found in ran.json["invariants"]]
    assert checked == [one.name for one in INVARIANTS if not one.needs_ledger]
    assert {(found["ok"], found["rows"]) for found in ran.json["invariants"]} == {(True, 0)}


async def test_a_broken_invariant_is_named_with_its_rows(world: World) -> None:
    """One falsified row: exit 1, the invariant is bad, its sample names the invoice."""
    sub = await world.subscribe()
    await world.renew(sub)
    invoice = await world.value("UPDATE invoice SET amount_minor = 1 RETURNING invoice_id")
    ran = await renewd("audit", "--json")
    bad = {found["name"]: found for found in ran.json["invariants"] if not found["ok"]}
    assert (ran.code, ran.json["ok"]) == (1, False)
    assert bad["lines_add_up"]["rows"] == 1
    assert bad["lines_add_up"]["sample"] == [str(invoice)]
    shown = await renewd("audit")
    assert shown.code == 1
    assert "BAD lines_add_up" in shown.out
    assert str(invoice) in shown.out


async def test_the_gateways_ledger_is_compared_both_ways(world: World) -> None:
    """Our charges are found there and theirs here, page by page; then all is ok."""
    await world.renew(*[await world.subscribe(f"tok_ok_{n}") for n in range(120)])
    ran = await renewd("audit", "--gateway-ledger", "--json")
    assert (ran.code, ran.json["ok"]) == (0, True)
    assert ran.json["ledger_charges"] == {GATEWAY: 120}
    assert [found["name"] for found in ran.json["invariants"]] == [one.name for one in INVARIANTS]


async def test_money_that_the_gateway_does_not_have_is_named(world: World) -> None:
    """An attempt that says succeeded, of which the gateway knows nothing, is unexplained."""
    await world.renew(await world.subscribe())
    await world.value("UPDATE attempt SET idempotency_key = 'b1:other' RETURNING 1")
    attempt = await world.row("attempt")
    await world.set_now(START + timedelta(hours=1))  # a ledger may lag behind for a while
    ran = await renewd("audit", "--gateway-ledger")
    assert ran.code == 1
    row = f"{attempt['invoice_id']}:{attempt['ordinal']}"
    assert f"unexplained: ledger_has_success: {row}" in ran.out.splitlines()


async def test_money_that_we_do_not_know_of_is_named(world: World) -> None:
    """A charge under one of our keys without an attempt is unexplained, every one of them."""
    await world.renew(*[await world.subscribe(f"tok_ok_{n}") for n in range(7)])
    for table in ("transition", "outbox_event", "attempt", "invoice_line", "invoice"):
        await world.value(f"DELETE FROM {table}")
    ran = await renewd("audit", "--gateway-ledger")
    named = [line for line in ran.out.splitlines() if line.startswith("unexplained: ledger_no_f")]
    assert ran.code == 1
    assert len(named) == 7
    found = (await renewd("audit", "--gateway-ledger", "--json")).json["invariants"]
    (foreign,) = [one for one in found if one["name"] == "ledger_no_foreign"]
    assert (foreign["rows"], len(foreign["sample"])) == (7, 7)


async def test_a_ledger_that_lost_a_charge_is_seen_to_have_lost_it(
    world: World, sandbox: RunningSandbox
) -> None:
    """What an earlier import saw does not count: the ledger is what it is now."""
    await world.renew(await world.subscribe())
    assert (await renewd("audit", "--gateway-ledger")).code == 0
    await world.value(
        "INSERT INTO gateway_charge SELECT gateway, 'gone', 'key', 'ref', status, amount_minor, "
        "currency, 0, created_at, imported_at - interval '1 s' FROM gateway_charge"
    )
    assert (await renewd("audit", "--gateway-ledger", "--json")).json["ledger_charges"] == {
        GATEWAY: 1
    }
    assert await world.value("SELECT count(*) FROM gateway_charge") == 1


async def test_a_charge_of_the_machines_time_is_found_too(
    world: World, sandbox: RunningSandbox
) -> None:
    """A gateway that does not follow the test clock dates its charges otherwise; all are read."""
    sandbox.set_clock(None)
    await world.renew(await world.subscribe())
    ran = await renewd("audit", "--gateway-ledger", "--json")
    assert (ran.code, ran.json["ledger_charges"]) == (0, {GATEWAY: 1})


async def test_a_gateway_that_is_away_ends_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its ledger nothing can be said: exit 3 and one line that names the gateway."""
    gateway = {"adapter": "sandbox", "base_url": "http://127.0.0.1:1", "api_key": API_KEY}
    monkeypatch.setenv("RENEWD_GATEWAYS", json.dumps({GATEWAY: gateway}))
    ran = await renewd("audit", "--gateway-ledger")
    assert (ran.code, ran.out) == (3, "")
    assert ran.complaint.startswith("gateway sandbox at http://127.0.0.1:1")


async def test_without_gateways_there_is_no_ledger(
    database: str,
) -> None:
    """--gateway-ledger without RENEWD_GATEWAYS is a missing setting."""
    ran = await renewd("audit", "--gateway-ledger")
    assert ran.code == 2
    assert ran.complaint.startswith("RENEWD_GATEWAYS is missing")
