"""A test database: loaded from schema.sql once, swept between tests."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import asyncpg

SCHEMA = Path(__file__).resolve().parents[1] / "schema.sql"
TABLES = """
SELECT quote_ident(relname) FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
ORDER BY relname
"""


@dataclass(frozen=True, slots=True)
class SweptDatabase:
    """Its tables, and the rows that schema.sql itself inserts, as JSON by table."""

    url: str
    tables: tuple[str, ...]
    initial_rows: dict[str, str]

    @classmethod
    async def load(cls, url: str) -> Self:
        """Loads schema.sql into an empty database."""
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(SCHEMA.read_text())
            tables = tuple(row[0] for row in await connection.fetch(TABLES))
            initial = {}
            for table in tables:
                rows = await connection.fetchval(f"SELECT json_agg(t) FROM {table} t")
                if rows is not None:
                    initial[table] = rows
        finally:
            await connection.close()
        return cls(url=url, tables=tables, initial_rows=initial)

    async def sweep(self) -> None:
        """Empties what is not empty and puts the initial rows back.

        A connection that a test left inside a transaction fails this after ten seconds instead of
        hanging the next test.
        """
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute("SET lock_timeout = '10s'")
            filled = " UNION ALL ".join(
                f"SELECT '{table}' WHERE EXISTS (SELECT FROM {table})" for table in self.tables
            )
            names = {row[0] for row in await connection.fetch(filled)} | set(self.initial_rows)
            async with connection.transaction():
                if names:
                    await connection.execute(
                        f"TRUNCATE {', '.join(sorted(names))} RESTART IDENTITY CASCADE"
                    )
                for table, rows in self.initial_rows.items():
                    await connection.execute(
                        f"INSERT INTO {table} OVERRIDING SYSTEM VALUE "
                        f"SELECT * FROM json_populate_recordset(NULL::{table}, $1)",
                        rows,
                    )
        finally:
            await connection.close()
