"""The command: choose a benchmark, run it on a stage of its own, print what it found."""

import json
import os
import platform
import sys

import uvloop

from lab.bench.messages import bench_intake, bench_relay
from lab.bench.renewals import bench_renewals, measure
from lab.bench.stage import Size, set_stage
from worker.errors import UsageError

_SMALL = Size(100, 1)
"""Messages need no book, only its seller and plans."""

GROWTH = (100_000, 1_000_000)
"""The per-charge cost in a book ten times as large must stay within 1.2 times."""


def run_bench(
    what: str, *, subscriptions: int, due: int, latency_ms: int = 200, as_json: bool = False
) -> int:
    """Run `renewals`, `growth`, `intake` or `relay`; returns the exit code. Its servers are private and removed."""
    if due > subscriptions:
        raise UsageError(f"--due is {due}: should be at most --subscriptions, {subscriptions}")
    size = Size(subscriptions, due, latency_ms)
    found = uvloop.run(_measure(what, size))
    found["machine"] = machine()
    if as_json:
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        for name, value in found.items():
            sys.stdout.write(f"{name:32} {_shown(value)}\n")
    return 0


def machine() -> str:
    """What was measured on; figures of different machines do not compare."""
    cpus = os.cpu_count()
    return f"{cpus} cores, {platform.machine()}, Python {platform.python_version()}"


async def _measure(what: str, size: Size) -> dict[str, object]:
    match what:
        case "growth":
            return await _growth(size)
        case "intake":
            async with set_stage(_SMALL, _say) as stage:
                return await bench_intake(stage, size.due // 3, _say)
        case "relay":
            async with set_stage(_SMALL, _say) as stage:
                return await bench_relay(stage, size.due, _say)
        case _:
            return await _renewals(size)


async def _renewals(size: Size) -> dict[str, object]:
    async with set_stage(size, _say) as stage:
        return await bench_renewals(stage, size, _say)


async def _growth(size: Size) -> dict[str, object]:
    """The same number due in a small and in a large book: work must grow with what is due only."""
    cost = {}
    for subscriptions in GROWTH:
        grown = Size(subscriptions, size.due, size.latency_ms)
        async with set_stage(grown, _say) as stage:
            run = await measure(stage, grown.due)
        cost[subscriptions] = {
            "charges_per_second": round(run.per_second),
            "cpu_seconds_per_1000": round(sum(run.cpu_per_1000.values()), 3),
        }
        _say(f"{subscriptions:,}: {cost[subscriptions]}")
    small, large = (cost[subscriptions] for subscriptions in GROWTH)
    return {
        "due": size.due,
        "books": {f"{subscriptions:,}": row for subscriptions, row in cost.items()},
        "cpu_ratio": round(large["cpu_seconds_per_1000"] / small["cpu_seconds_per_1000"], 3),
        "time_ratio": round(small["charges_per_second"] / large["charges_per_second"], 3),
    }


def _say(line: str) -> None:
    sys.stderr.write(f"… {line}\n")


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(inner)}" for name, inner in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)
