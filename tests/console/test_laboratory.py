"""`renewd clock`, `demo` and `bench`: what is asked for reaches those who do it."""

import pytest

from tests.console.command import renewd, renewd_here
from tests.world import START, World


async def test_the_clock_is_read(world: World) -> None:
    """Business time and whether it is virtual."""
    ran = await renewd("clock", "--json")
    assert ran.json == {"now": "2026-01-31T10:00:00Z", "is_virtual": True}
    shown = await renewd("clock")
    assert shown.out == "2026-01-31 10:00:00Z by the test clock, which stands still\n"


async def test_a_clock_that_was_never_moved_is_the_databases(database: str) -> None:
    """Real time, and that it is real."""
    ran = await renewd("clock")
    assert ran.out.endswith("by the database; the test clock was never moved\n")


async def test_the_clock_is_moved(
    world: World, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three days on, the gateway with it, and the trace of who did it."""
    monkeypatch.setenv("RENEWD_AMQP_URL", amqp_url)
    ran = await renewd("clock", "advance", "3d", "--json")
    assert ran.json == {"now": "2026-02-03T10:00:00Z", "advanced_seconds": 259200}
    row = await world.row("operator_log")
    assert (row["who"], row["verb"], row["why"]) == ("ana", "clock advance", "3d")
    assert await world.value("SELECT clock_now FROM control") > START


@pytest.mark.parametrize("span", ["3", "d", "-3d", "3 days", "0d"])
async def test_a_span_is_a_number_and_a_unit(
    world: World, amqp_url: str, monkeypatch: pytest.MonkeyPatch, span: str
) -> None:
    """Anything else is wrong use."""
    monkeypatch.setenv("RENEWD_AMQP_URL", amqp_url)
    ran = await renewd("clock", "advance", "--", span)
    assert ran.code == 2
    assert ran.complaint.endswith("should be a number and m, h, d or w, like 3d")


async def test_time_does_not_move_without_sandboxes(
    database: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a sandbox gateway it is refused, and nothing is written."""
    monkeypatch.setenv("RENEWD_AMQP_URL", amqp_url)
    ran = await renewd("clock", "advance", "3d")
    assert ran.code == 2
    assert ran.complaint.startswith("RENEWD_GATEWAYS is missing")


def test_demo_gets_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Size, length, seed and form of the demo reach it; its exit code is ours."""
    asked: dict[str, object] = {}

    def play(**options: object) -> int:
        asked.update(options)
        return 1

    monkeypatch.setattr("lab.demo.run_demo", play)
    ran = renewd_here("demo", "--subscriptions", "50", "--months", "3", "--json")
    assert ran.code == 1
    assert asked == {
        "subscriptions": 50,
        "months": 3,
        "as_json": True,
        "keep": False,
        "seed": 1,
    }


def test_bench_gets_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What to measure, and on how much."""
    asked: list[object] = []

    def measure(what: str, **options: object) -> int:
        asked.append((what, options))
        return 0

    monkeypatch.setattr("lab.bench.run_bench", measure)
    ran = renewd_here("bench", "renewals", "--subscriptions", "1000", "--due", "500", "--json")
    options = {"subscriptions": 1000, "due": 500, "latency_ms": 200, "as_json": True}
    assert (ran.code, asked) == (0, [("renewals", options)])


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a verb's own library is not installed: exit 2, and what to install."""
    monkeypatch.setitem(__import__("sys").modules, "lab.bench", None)
    ran = renewd_here("bench", "renewals")
    assert ran.code == 2
    assert "is not installed: pip install 'renewd[dev]' brings it" in ran.complaint
