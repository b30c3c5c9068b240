"""The `renewd` command: finds the verb, runs it, and turns every error into one line and an exit code.

Exit codes: 0 good, 1 something bad was found, 2 wrong use or settings, 3 a server cannot be reached,
130 interrupted. Only the module of the verb that was asked for is imported, so that a small verb does
not wait for the machinery of a large one.
"""

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Annotated

import structlog
import typer
from typer.main import get_command

from worker.errors import RenewdError
from worker.logs import configure_logging

MODULES: Mapping[str, tuple[str, ...]] = {
    "console.laboratory": ("demo", "bench", "clock"),
    "console.up": ("up",),
    "console.processes": ("scheduler", "worker", "platform"),
    "console.sandbox": ("sandbox",),
    "console.migrating": ("migrate",),
    "console.check": ("check",),
    "console.settings": ("settings",),
    "console.explain": ("explain",),
    "console.audit": ("audit",),
    "console.requests": ("collect", "cancel"),
    "console.charging": ("pause-charging", "resume-charging"),
    "console.parking": ("parked", "release"),
    "console.rejects": ("rejects",),
}
"""Where each verb is; in the order of `renewd --help`."""

ABOUT = """Renews subscriptions, recovers failed payments, tells people in time.

Settings are environment variables: see `renewd settings`. A page on each verb: `renewd VERB --help`.
"""
WRONG_USE = 2
INTERRUPTED = 130

log = structlog.get_logger()


def main() -> int:
    """The entry point of `renewd`; returns the exit code."""
    return run(sys.argv[1:])


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; nothing is raised, whatever happens."""
    configure_logging(format="auto", level="WARNING", process="renewd")
    try:
        code = _invoke(arguments or ["--help"])
        sys.stdout.flush()
    except RenewdError as error:
        return _complain(str(error), error.exit_code)
    except typer.TyperException as error:
        return _complain(_usage(error), WRONG_USE)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough; nothing may be flushed into it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        log.debug("command_failed", exc_info=error)
        what = f"{type(error).__name__}: {error}".partition("\n")[0]
        return _complain(f"unexpected {what} (RENEWD_LOG_LEVEL=DEBUG shows where)", 1)
    return code if arguments else WRONG_USE


def build_app(arguments: Sequence[str]) -> typer.Typer:
    """The command with the verb that `arguments` begin with, or with all of them."""
    app = typer.Typer(
        name="renewd",
        help=ABOUT,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    named = [name for name, verbs in MODULES.items() if set(verbs) & set(arguments[:1])]
    for name in named or MODULES:
        app.add_typer(importlib.import_module(name).app)
    return app


def _invoke(arguments: Sequence[str]) -> int:
    """Run the verb; what its function returns is the exit code, None is good."""
    command = get_command(build_app(arguments))
    try:
        code = command.main(args=list(arguments), prog_name="renewd", standalone_mode=False)
    except SystemExit as left:  # how typer leaves when its output is closed
        code = left.code
    return code if isinstance(code, int) else 0


def _root(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and exit.",
            is_eager=True,
            callback=lambda wanted: _print_version() if wanted else None,
        ),
    ] = False,
) -> None:
    pass


def _print_version() -> None:
    print(version("renewd"))
    raise typer.Exit


def _usage(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    line = " ".join(error.format_message().split())
    path = context.command_path if context is not None else "renewd"
    return f"{line} (see {path} --help)"


def _complain(line: str, code: int) -> int:
    print(f"renewd: {line}", file=sys.stderr)
    return code
