"""Child processes kept running until they are told to end, with their output in one stream.

A child that dies is started again, later each time it dies soon; one whose settings are wrong (exit
code 2) would die for ever, so it ends all of them. A stop is one SIGTERM each, and SIGKILL for what is
left shortly before the supervisor's own time is over.
"""

import asyncio
import contextlib
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from worker import limits
from worker.errors import UsageError

STOP_SECONDS = limits.STOP_SECONDS - 0.3
"""Children cut themselves off half a second before `limits.STOP_SECONDS`."""

BACKOFF_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_SECONDS = 60.0
"""A child that lived this long has proved itself: its next death is its first again."""

LINE_BYTES = 1 << 20
"""Longest line of a child's output that is kept whole."""

log = structlog.get_logger()

Show = Callable[[str, bytes], None]
"""Show a line (without its end) of the child with this name."""


@dataclass(frozen=True, slots=True)
class Child:
    """One process to be kept running."""

    name: str
    command: Sequence[str]


async def supervise(
    children: Sequence[Child], *, environment: Mapping[str, str], show: Show
) -> int:
    """Run all children until SIGTERM or SIGINT; 0 if they ended well then, else the exit code."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    codes = await asyncio.gather(
        *(_keep_running(child, environment, show, stop) for child in children)
    )
    return max(codes)


async def _keep_running(
    child: Child, environment: Mapping[str, str], show: Show, stop: asyncio.Event
) -> int:
    deaths = 0
    while not stop.is_set():
        lived_from = asyncio.get_running_loop().time()
        code = await _run_once(child, environment, show, stop)
        if stop.is_set():
            if code != 0:
                log.error("child_ended_badly", name=child.name, exit_code=code)
            return 0 if code == 0 else 1
        if code == UsageError.exit_code:
            stop.set()
            return code
        if asyncio.get_running_loop().time() - lived_from >= STEADY_SECONDS:
            deaths = 0
        wait = BACKOFF_SECONDS[min(deaths, len(BACKOFF_SECONDS) - 1)]
        deaths += 1
        log.warning("child_died", name=child.name, exit_code=code, wait_seconds=wait)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await stop.wait()
    return 0


async def _run_once(
    child: Child, environment: Mapping[str, str], show: Show, stop: asyncio.Event
) -> int:
    """One life of a child; on `stop` it is told to end, and made to."""
    process = await asyncio.create_subprocess_exec(
        *child.command,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=LINE_BYTES,
        # Ctrl-C reaches the supervisor alone; it tells each child once.
        start_new_session=True,
    )
    reading = asyncio.create_task(_read(process, child.name, show))
    ending = asyncio.create_task(_end_on(stop, process))
    try:
        code = await process.wait()
        await reading
    finally:
        ending.cancel()
    return code


async def _read(process: Process, name: str, show: Show) -> None:
    assert process.stdout is not None
    while True:
        try:
            line = await process.stdout.readline()
        except ValueError:  # longer than LINE_BYTES: the rest of it comes as the next line
            continue
        if not line:
            return
        show(name, line.rstrip(b"\r\n"))


async def _end_on(stop: asyncio.Event, process: Process) -> None:
    await stop.wait()
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        await asyncio.sleep(STOP_SECONDS)
        log.error("stop_overdue", seconds=STOP_SECONDS)
        process.kill()


def renewd(verb: str) -> list[str]:
    """The command line of a verb, run by this very Python."""
    return [sys.executable, "-m", "console", verb]
