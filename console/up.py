"""`renewd up`: every process in one terminal, against the real servers of the settings."""

import asyncio
import os
import sys
from typing import Annotated

import typer

from console.supervisor import Child, renewd, supervise
from worker.limit_chain import check_limits
from worker.logs import configure_logging
from worker.settings import load_settings

COLOURS = ("36", "33", "32", "35", "34")
"""One for each name, again and again; of the ANSI foregrounds those that are read on any ground."""

app = typer.Typer()


@app.command()
def up(
    *,
    workers: Annotated[int, typer.Option(min=1, max=64, help="How many workers.")] = 1,
) -> int:
    """Run all processes in one terminal.

    Ctrl-C ends all of them. A process that dies is started again. Logs are interleaved, on a terminal with names before them.
    """
    settings = load_settings(require=("database_url", "amqp_url"))
    check_limits(settings)
    configure_logging(format=settings.log_format, level=settings.log_level, process="up")
    names = ["worker"] if workers == 1 else [f"worker-{n}" for n in range(1, workers + 1)]
    children = [Child(name, renewd(name.partition("-")[0])) for name in names]
    children = [Child("scheduler", renewd("scheduler")), *children]
    children.append(Child("platform", renewd("platform")))
    on_terminal = sys.stderr.isatty()
    environment = dict(os.environ)
    if on_terminal and settings.log_format == "auto":
        environment["RENEWD_LOG_FORMAT"] = "console"
    screen = _Screen([child.name for child in children], named=on_terminal)
    return asyncio.run(supervise(children, environment=environment, show=screen.show))


class _Screen:
    """Writes whole lines of all children to standard error, as their own logs would be."""

    def __init__(self, names: list[str], *, named: bool) -> None:
        width = max(map(len, names))
        self._prefixes = {
            name: f"\x1b[{COLOURS[n % len(COLOURS)]}m{name:<{width}} |\x1b[0m ".encode()
            if named
            else b""
            for n, name in enumerate(names)
        }

    def show(self, name: str, line: bytes) -> None:
        """One line; JSON lines name their process themselves."""
        sys.stderr.buffer.write(self._prefixes[name] + line + b"\n")
        sys.stderr.buffer.flush()
