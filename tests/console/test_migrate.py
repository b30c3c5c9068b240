"""`renewd migrate`: once each, in order, all or nothing, whoever else is there."""

import asyncio
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from tests.console.command import renewd
from worker import migrations
from worker.migrations import Migration, MigrationError, load, migrate, pending
from worker.store.migrations import read_applied

ROOT = Path(__file__).resolve().parents[2]


def step(version: int, script: str) -> Migration:
    """A migration after those of the checkout."""
    return Migration(version, f"step_{version}", f"checksum of {script}", script)


@pytest.fixture
async def conn(empty: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection to it."""
    connection = await asyncpg.connect(empty)
    yield connection
    await connection.close()


async def test_an_empty_database_gets_everything(empty: str) -> None:
    """All migrations are applied and named; a second run applies none."""
    first, second = await renewd("migrate", "--json"), await renewd("migrate", "--json")
    newest = load()[-1].version
    names = [f"{migration.version:04d}_{migration.name}" for migration in load()]
    assert first.json == {"version": newest, "applied": names, "broker_declared": False}
    assert second.json == {"version": newest, "applied": [], "broker_declared": False}


async def test_it_says_what_it_did(empty: str) -> None:
    """For people: a line each, and the version."""
    ran = await renewd("migrate")
    assert ran.code == 0
    assert ran.out.splitlines()[0] == "applied 0001_initial"
    assert ran.out.splitlines()[-1] == f"the database is at version {load()[-1].version}"


async def test_many_at_once_apply_each_migration_once(empty: str) -> None:
    """Eight processes that migrate at the same moment all end well."""
    connections = [await asyncpg.connect(empty) for _ in range(8)]
    known = [*load(), step(len(load()) + 1, "CREATE TABLE once (n int); SELECT pg_sleep(0.1)")]
    done = await asyncio.gather(*(migrate(connection, known) for connection in connections))
    for connection in connections:
        await connection.close()
    assert sorted(migration.version for one in done for migration in one) == [
        migration.version for migration in known
    ]


async def test_a_migration_that_fails_leaves_nothing(
    conn: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    """What came before it stays, of itself nothing is left, and it can be run again."""
    known = load()
    broken = step(len(known) + 1, "CREATE TABLE half (n int); SELECT 1 / 0")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(conn, [*known, broken])
    assert await conn.fetchval("SELECT to_regclass('half')") is None
    assert [row.version for row in await read_applied(conn)] == [m.version for m in known]
    mended = step(len(known) + 1, "CREATE TABLE half (n int)")
    assert await migrate(conn, [*known, mended]) == [mended]


async def test_a_busy_table_makes_it_step_back(
    empty: str, conn: "asyncpg.Connection[asyncpg.Record]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits 2 s for a table at most, lets everybody through, and tries again."""
    known = load()
    await migrate(conn, known)
    monkeypatch.setattr(migrations, "PAUSE_SECONDS", 0.1)
    worker = await asyncpg.connect(empty)
    change = step(len(known) + 1, "ALTER TABLE seller ADD COLUMN motto text")
    async with worker.transaction():
        await worker.execute("SELECT 1 FROM seller")
        migrating = asyncio.create_task(migrate(conn, [*known, change]))
        other = await asyncpg.connect(empty)
        await asyncio.sleep(0.5)
        began = asyncio.get_running_loop().time()
        # It queues behind the migration, which must give way.
        await other.execute("SELECT 1 FROM seller")
        waited = asyncio.get_running_loop().time() - began
        await other.close()
    assert await migrating == [change]
    await worker.close()
    assert waited < 3


async def test_a_table_that_stays_busy_ends_it_in_one_line(
    empty: str, conn: "asyncpg.Connection[asyncpg.Record]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its last try the error says to run it again later."""
    known = load()
    await migrate(conn, known)
    monkeypatch.setattr(migrations, "LOCK_TRIES", 1)
    worker = await asyncpg.connect(empty)
    async with worker.transaction():
        await worker.execute("SELECT 1 FROM seller")
        with pytest.raises(MigrationError, match="run it again later"):
            await migrate(conn, [*known, step(len(known) + 1, "DROP TABLE seller CASCADE")])
    await worker.close()


async def test_a_changed_migration_is_refused(
    empty: str, conn: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Another text under a number that was applied: exit 1, one line, nothing done."""
    await migrate(conn, load())
    await conn.execute("UPDATE schema_migration SET checksum = 'other' WHERE version = 1")
    ran = await renewd("migrate")
    assert (ran.code, ran.out) == (1, "")
    assert ran.complaint.startswith("migration 1 (initial) is not the one that ran")


async def test_a_newer_database_is_refused(
    empty: str, conn: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """A version that this code does not know: exit 1, one line that names both versions."""
    await migrate(conn, load())
    await conn.execute("INSERT INTO schema_migration VALUES (99, 'future', 'x')")
    ran = await renewd("migrate")
    assert (ran.code, ran.out) == (1, "")
    assert ran.complaint == (
        f"the database has version 99 (future), this renewd knows {load()[-1].version}: "
        "should be a newer renewd"
    )


@pytest.mark.parametrize(
    "names", [["0002_late.sql"], ["0001_a.sql", "0003_c.sql"], ["0001_a.sql", "0001_b.sql"], []]
)
def test_numbers_have_no_gap(tmp_path: Path, names: list[str]) -> None:
    """Files that are not numbered 1, 2, 3, … once each are refused before anything runs."""
    for name in names:
        (tmp_path / name).write_text("SELECT 1")
    with pytest.raises(MigrationError, match="should be numbered"):
        load(tmp_path)


def test_names_are_checked(tmp_path: Path) -> None:
    """A file that is called otherwise is refused, not passed over."""
    (tmp_path / "0001-initial.sql").write_text("SELECT 1")
    with pytest.raises(MigrationError, match=r"0001-initial\.sql: should be called NNNN_name"):
        load(tmp_path)


def test_nothing_is_pending_on_a_database_of_this_version() -> None:
    """What was applied is a beginning of what is known; the rest is pending, in order."""
    known = [step(1, "a"), step(2, "b")]
    assert pending(known, []) == known


def test_an_installed_wheel_has_them(tmp_path: Path) -> None:
    """The wheel brings the migrations along, and finds them without a checkout."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            "from worker import migrations as m; print(len(m.load()), m.__file__)",
        ],
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert found.stdout.strip() == f"{len(load())} {tmp_path}/site/worker/migrations.py"
