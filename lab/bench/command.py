"""The command: choose a benchmark, run it on a stage of its own, print what it found."""

import json
import os
import platform
import sys

import uvloop

from lab.bench.renewals import bench_renewals, measure
from lab.bench.stage import Size, set_stage

GROWTH = (100_000, 1_000_000)
"""The per-charge cost in a book ten times as large must stay within 1.2 times."""


def run_bench(
    what: str, *, subscriptions: int, due: int, latency_ms: int = 200, as_json: bool = False
) -> int:
    """Run `renewals` or `growth`; returns the exit code. Its servers are private and removed."""
    size = Size(subscriptions, due, latency_ms)
    found = uvloop.run(_growth(size) if what == "growth" else _renewals(size))
    found["machine"] = machine()
    if as_json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:32} {_shown(value)}")
    return 0


def machine() -> str:
    """What was measured on; figures of different machines do not compare."""
    cpus = os.cpu_count()
    return f"{cpus} cores, {platform.machine()}, Python {platform.python_version()}"


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
    print(f"… {line}", file=sys.stderr, flush=True)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(inner)}" for name, inner in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)
