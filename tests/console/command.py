"""`renewd`, run inside the test's own process: what it printed, and how it ended."""

import asyncio
import contextlib
import io
import json
from dataclasses import dataclass
from typing import Any

from console.main import run


@dataclass(frozen=True, slots=True)
class Ran:
    """One command line that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one object that it printed."""
        (line,) = self.out.splitlines()
        return json.loads(line)

    @property
    def complaint(self) -> str:
        """The one line of its error, without the name of the command."""
        (line,) = self.err.splitlines()
        assert line.startswith("renewd: "), line
        return line.removeprefix("renewd: ")


def renewd_here(*arguments: str) -> Ran:
    """Run a command line that needs no event loop of the test's."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(arguments)
    return Ran(code, out.getvalue(), err.getvalue())


async def renewd(*arguments: str) -> Ran:
    """Run a command line in a thread: verbs start event loops of their own."""
    return await asyncio.to_thread(renewd_here, *arguments)
