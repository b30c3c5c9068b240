"""schema.sql: equal to the migrations, spelled like the enums, known to every statement."""

import importlib
import re
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import get_args

import asyncpg
import pytest
from pydantic import BaseModel

from billing.calendar import IntervalUnit
from billing.dunning_terms import AttemptSource
from billing.events import payloads
from billing.lifecycle import (
    AttemptState,
    CancelOrigin,
    InvoiceStatus,
    NoticeState,
    RejectedState,
    SubscriptionStatus,
)
from billing.outcomes import DeclineClass
from billing.pricing import PriceModel
from lab.servers import postgres
from worker import migrations
from worker.db import Connection
from worker.platform.verdicts import Result

ROOT = Path(__file__).resolve().parents[1]
STORES = sorted(
    path
    for package in ("worker", "scheduler", "lab")
    for path in (ROOT / package).glob("store/*.py")
    if path.name != "__init__.py"
)
VERBS = re.compile(r"\b(?:SELECT|INSERT|UPDATE|DELETE)\b")


def told(payload: type[BaseModel], field: str) -> frozenset[str]:
    """The words that the platform may write into a field."""
    annotation = payload.model_fields[field].annotation
    options = get_args(annotation)
    words = [word for option in options for word in get_args(option)] or options
    return frozenset(word for word in words if isinstance(word, str))


# What a CHECK lists, and where the code spells the same.
SPELT: Mapping[tuple[str, str], type[StrEnum] | frozenset[str]] = {
    ("attempt", "decline_class"): DeclineClass,
    ("attempt", "source"): AttemptSource,
    ("attempt", "state"): AttemptState,
    ("inbox_event", "result"): frozenset(Result) - {Result.DUPLICATE},
    ("invoice", "attempt_source"): AttemptSource,
    ("invoice", "requested_source"): frozenset({AttemptSource.NEW_CARD, AttemptSource.MANUAL}),
    ("invoice", "status"): InvoiceStatus,
    ("notice", "state"): NoticeState,
    ("payment_method", "funding"): told(payloads.PaymentMethodAttached, "funding"),
    ("payment_method", "kind"): told(payloads.PaymentMethodAttached, "kind"),
    ("plan", "interval_unit"): IntervalUnit,
    ("plan", "proration"): told(payloads.PlanUpserted, "proration"),
    ("plan", "while_past_due"): told(payloads.PlanUpserted, "while_past_due"),
    ("price_version", "model"): PriceModel,
    ("rejected_event", "state"): RejectedState,
    ("seller", "late_money"): told(payloads.SellerUpserted, "late_money"),
    ("subscription", "cancel_origin"): CancelOrigin,
    ("subscription", "status"): SubscriptionStatus,
}
SPELT_IN_SQL_ALONE = {
    ("charging_pause", "scope"),
    ("invoice", "kind"),
    ("invoice", "recovered_by"),
    ("parked", "kind"),
    ("transition", "machine"),
}

# Everything that makes a schema, one text a thing.
CATALOG = """
SELECT 'table ' || c.relname || ' ' || c.relkind::text || ' ' || coalesce(c.reloptions::text, '')
       || ' ' || coalesce(obj_description(c.oid, 'pg_class'), '') AS thing
  FROM pg_class c
 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind NOT IN ('i', 'I', 't')
UNION ALL
SELECT 'column ' || c.relname || ' ' || a.attnum || ' ' || a.attname || ' '
       || format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull || ' ' || a.attidentity::text
       || ' ' || a.attgenerated::text || ' ' || coalesce(pg_get_expr(d.adbin, d.adrelid), '')
       || ' ' || coalesce(col_description(c.oid, a.attnum), '')
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
  LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
   AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT 'constraint ' || conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid)
  FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL
SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL
SELECT 'trigger ' || pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
UNION ALL
SELECT 'function ' || pg_get_functiondef(oid) FROM pg_proc
 WHERE pronamespace = 'public'::regnamespace
 ORDER BY 1
"""
LISTS = """
SELECT c.conrelid::regclass::text AS table, a.attname AS column,
       pg_get_constraintdef(c.oid) AS definition
  FROM pg_constraint c
  JOIN pg_attribute a ON a.attrelid = c.conrelid AND c.conkey = ARRAY[a.attnum]
 WHERE c.contype = 'c' AND c.connamespace = 'public'::regnamespace
   AND a.atttypid = 'text'::regtype
"""
ONE_LIST = re.compile(
    r"CHECK \(\(\w+ (?:= ANY \(ARRAY\[(?P<many>.*)\]\)|= (?P<one>'\w+'::text))\)\)"
)
UNCOMMENTED = """
SELECT relname FROM pg_class
 WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
   AND obj_description(oid, 'pg_class') IS NULL
"""


@pytest.fixture
async def two_databases(
    postgres_server: postgres.Databases,
) -> AsyncIterator[tuple[Connection, Connection]]:
    """A database made by schema.sql and one made by the migrations."""
    name = f"renewd_test_{secrets.token_hex(6)}"
    names = (f"{name}_schema", f"{name}_migrated")
    connections = [await asyncpg.connect(postgres_server.create_database(name)) for name in names]
    try:
        await connections[0].execute((ROOT / "schema.sql").read_text())
        await migrations.migrate(connections[1], migrations.load())
        yield connections[0], connections[1]
    finally:
        for connection in connections:
            await connection.close()
        for name in names:
            postgres_server.drop_database(name)


async def test_schema_is_the_sum_of_the_migrations(
    two_databases: tuple[Connection, Connection],
) -> None:
    """schema.sql and the migrations, run from the first to the last, make the same catalog."""
    declared, migrated = two_databases
    things = [row["thing"] for row in await declared.fetch(CATALOG)]
    assert [row["thing"] for row in await migrated.fetch(CATALOG)] == things
    assert len(things) > 300


async def test_both_begin_with_the_same_rows(two_databases: tuple[Connection, Connection]) -> None:
    """What schema.sql inserts the migrations insert as well; only they record themselves."""
    declared, migrated = two_databases
    for conn in (declared, migrated):
        assert await conn.fetchval("SELECT count(*) FROM control") == 1
    assert await declared.fetchval("SELECT count(*) FROM schema_migration") == 0
    recorded = await migrated.fetchval("SELECT count(*) FROM schema_migration")
    assert recorded == len(migrations.load())


def statements() -> Iterator[tuple[str, str]]:
    """Every statement of every store module, by where it stands."""
    for path in STORES:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for name, text in vars(importlib.import_module(module)).items():
            is_constant = name.isupper() and not name.startswith("_")
            if is_constant and isinstance(text, str) and VERBS.search(text):
                yield f"{module}.{name}", text


async def test_postgres_understands_every_statement(conn: Connection) -> None:
    """Each statement of the stores can be prepared against schema.sql."""
    refused = {}
    for place, text in statements():
        try:
            await conn.prepare(text)
        except asyncpg.PostgresError as error:
            refused[place] = str(error)
    assert refused == {}


def test_statements_are_found() -> None:
    """The stores of the worker and of the scheduler are among what is prepared."""
    found = dict(statements())
    assert {"worker.store.changes.INSERT_ATTEMPTS", "scheduler.store.claims.CLAIM_RENEWALS"} <= {
        *found
    }
    assert len(found) > 100


async def test_lists_are_those_of_the_code(conn: Connection) -> None:
    """Every CHECK that lists words lists those of its enum, no more and no fewer."""
    in_schema = {
        (row["table"], row["column"]): frozenset(re.findall(r"'(\w+)'::text", row["definition"]))
        for row in await conn.fetch(LISTS)
        if ONE_LIST.fullmatch(row["definition"])
    }
    in_code = {place: frozenset(map(str, words)) for place, words in SPELT.items()}
    listed = {place: words for place, words in in_schema.items() if place in SPELT}
    assert listed == in_code
    assert set(in_schema) - set(SPELT) == SPELT_IN_SQL_ALONE


async def test_every_table_says_what_it_is(conn: Connection) -> None:
    """Each table has a comment."""
    assert [row["relname"] for row in await conn.fetch(UNCOMMENTED)] == []
