"""The edge of the command: exit codes, errors in one line, and what is not imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from console import main as command
from tests.console.command import renewd, renewd_here

ROOT = Path(__file__).resolve().parents[2]
NOWHERE = "postgresql://renewd:hunter2@127.0.0.1:1/renewd"
SMALL = """
import sys
from console.main import run
run(["settings"])
print([name for name in ("aiohttp", "asyncpg", "dramatiq", "jinja2") if name in sys.modules])
"""
VERBS = [verb for verbs in command.MODULES.values() for verb in verbs]
TAKES_DATABASE = [
    ["migrate"],
    ["explain", "sub_1"],
    ["audit"],
    ["collect", "--subscription", "sub_1", "--why", "asked"],
    ["cancel", "sub_1", "--at", "now", "--why", "asked"],
    ["pause-charging", "--why", "storm"],
    ["resume-charging", "--why", "calm"],
    ["parked"],
    ["release", "renewal", "sub_1", "--why", "mended"],
    ["rejects"],
    ["clock"],
]
CHANGES = [["collect"], ["cancel", "sub_1", "--at", "now"], ["pause-charging"], ["resume-charging"]]


def process(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """The real command, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "console", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str) -> None:
    """`renewd VERB --help` says what it does and exits with 0."""
    ran = renewd_here(verb, "--help")
    assert (ran.code, ran.err) == (0, "")
    assert f"renewd {verb}" in ran.out


def test_help_lists_every_verb() -> None:
    """`renewd --help` names every verb; without anything it does the same, as wrong use."""
    asked, wrong = renewd_here("--help"), renewd_here()
    assert (asked.code, wrong.code) == (0, 2)
    assert asked.out == wrong.out
    assert [verb for verb in VERBS if f"\n  {verb} " not in asked.out] == []


def test_version_is_told() -> None:
    """`renewd --version` prints one line."""
    ran = renewd_here("--version")
    assert (ran.code, len(ran.out.splitlines())) == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["expalin", "sub_1"], "No such command 'expalin'. Did you mean 'explain'?"),
        (["hold", "sub_1"], "No such command 'hold'"),
        (["audit", "--ledger"], "No such option: --ledger"),
        (["cancel", "sub_1", "--at", "later", "--why", "x"], "Invalid value for '--at'"),
        (["release", "invoice", "x", "--why", "x"], "Invalid value for"),
        (["bench", "everything"], "Invalid value"),
    ],
)
def test_wrong_use_is_one_line(arguments: list[str], expected: str) -> None:
    """A verb, option or value that there is not: exit 2, one line, where to read on."""
    ran = renewd_here(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.complaint.startswith(expected)
    assert ran.complaint.endswith("--help)")


@pytest.mark.parametrize("arguments", CHANGES)
def test_who_changes_something_says_why(arguments: list[str]) -> None:
    """Verbs that change something refuse to work without --why."""
    ran = renewd_here(*arguments)
    assert ran.code == 2
    assert "--why" in ran.complaint


@pytest.mark.parametrize("arguments", [*TAKES_DATABASE, ["worker"], ["scheduler"], ["platform"]])
async def test_a_missing_setting_is_one_line(arguments: list[str]) -> None:
    """Without RENEWD_DATABASE_URL: exit 2 and one line that names it."""
    ran = await renewd(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.complaint == "RENEWD_DATABASE_URL is missing: should be the Postgres database"


@pytest.mark.parametrize("arguments", TAKES_DATABASE)
async def test_a_database_that_is_away_is_one_line(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 3, and a line that names setting and address but no password."""
    monkeypatch.setenv("RENEWD_DATABASE_URL", NOWHERE)
    ran = await renewd(*arguments)
    assert (ran.code, ran.out) == (3, "")
    assert ran.complaint.startswith(
        "RENEWD_DATABASE_URL is 'postgresql://renewd:***@127.0.0.1:1/renewd': "
        "should be a database that answers"
    )


async def test_a_database_that_is_not_there_is_one_line(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that the server does not know counts as not reached."""
    monkeypatch.setenv("RENEWD_DATABASE_URL", f"{database}_elsewhere")
    ran = await renewd("parked")
    assert ran.code == 3
    assert "does not exist" in ran.complaint


async def test_an_empty_database_asks_for_migrate(
    postgres_server: "object", database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without our tables: exit 1, and what to run."""
    monkeypatch.setenv("RENEWD_DATABASE_URL", database.rpartition("/")[0] + "/postgres")
    ran = await renewd("audit")
    assert ran.code == 1
    assert ran.complaint.endswith("run renewd migrate")


def test_a_bug_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever happens there is no traceback: exit 1, and how to see where it was."""
    monkeypatch.setenv("RENEWD_DATABASE_URL", NOWHERE)
    monkeypatch.setattr("worker.migrations.load", lambda: 1 / 0)
    ran = renewd_here("migrate")
    assert ran.code == 1
    assert ran.complaint == (
        "unexpected ZeroDivisionError: division by zero (RENEWD_LOG_LEVEL=DEBUG shows where)"
    )


def test_a_bug_shows_where_it_is_on_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    """With RENEWD_LOG_LEVEL=DEBUG the places are in the log, in front of the one line."""
    monkeypatch.setenv("RENEWD_DATABASE_URL", NOWHERE)
    monkeypatch.setenv("RENEWD_LOG_LEVEL", "DEBUG")
    monkeypatch.setattr("worker.migrations.load", lambda: 1 / 0)
    ran = renewd_here("migrate")
    *logged, line = ran.err.splitlines()
    assert line.startswith("renewd: unexpected")
    assert "migrating.py" in " ".join(logged)


def test_an_interrupt_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends a verb with 130 and without a word."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("RENEWD_DATABASE_URL", NOWHERE)
    monkeypatch.setattr("worker.migrations.load", interrupt)
    ran = renewd_here("migrate")
    assert (ran.code, ran.out, ran.err) == (130, "", "")


def test_the_real_command_ends_as_told() -> None:
    """As a process: results on standard output, errors on standard error, its exit code."""
    good, wrong = process("settings"), process("audit")
    assert (good.returncode, good.stderr) == (0, "")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == (
        "renewd: RENEWD_DATABASE_URL is missing: should be the Postgres database\n"
    )


def test_a_reader_that_leaves_is_no_error() -> None:
    """A pipe that is closed early leaves no traceback."""
    done = subprocess.run(
        f"{sys.executable} -m console settings | true",
        shell=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == ""


def test_a_small_verb_is_quick() -> None:
    """`renewd settings` imports none of the large libraries: it starts within a second."""
    done = subprocess.run(
        [sys.executable, "-c", SMALL],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1] == "[]"
