"""Every panel of Grafana's dashboards is complete, asks for what is exported, and reads what it may."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from billing.money import EXPONENTS
from tests import promql
from worker.db import Connection

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
PROVISIONED = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/renewd.yaml").read_text())[
    "datasources"
]
SOURCES = {source["uid"]: source["type"] for source in PROVISIONED}
GRANTS = (DEPLOY / "postgres/grants.sql").read_text()
GRANT = re.compile(r"GRANT SELECT \(([^)]*)\)\s+ON (\w+) TO grafana;")

BOARDS: list[dict[str, Any]] = [
    json.loads(path.read_text()) for path in sorted((DEPLOY / "grafana/dashboards").glob("*.json"))
]
EVERY_BOARD = [pytest.param(board, id=board["uid"]) for board in BOARDS]
PANELS = [
    pytest.param(panel, id=f"{board['uid']}: {panel['title']}")
    for board in BOARDS
    for panel in board["panels"]
    if panel["type"] != "row"
]
QUERIES: dict[str, str] = {
    panel["title"]: target["rawSql"]
    for board in BOARDS
    for panel in board["panels"]
    for target in panel.get("targets", [])
    if "rawSql" in target
}

TEXT = {"type": "string", "minLength": 1}
SOURCE = {
    "required": ["type", "uid"],
    "oneOf": [
        {"properties": {"uid": {"const": u}, "type": {"const": t}}} for u, t in SOURCES.items()
    ],
}
TARGET = {
    "required": ["datasource", "refId"],
    "properties": {"datasource": SOURCE, "refId": {"pattern": "^[A-G]$"}},
    "oneOf": [
        {
            "required": ["expr", "legendFormat", "instant", "range"],
            "properties": {"expr": TEXT, "legendFormat": TEXT},
        },
        {
            "required": ["rawSql", "rawQuery", "format"],
            "properties": {"rawSql": TEXT, "rawQuery": {"const": True}},
        },
    ],
}
STEPS = {
    "type": "array",
    "minItems": 1,
    "items": {"required": ["color", "value"]},
    "prefixItems": [{"properties": {"value": {"const": None}}}],
}
FIELDS = {
    "required": ["unit", "thresholds", "color"],
    "properties": {
        "unit": TEXT,
        "thresholds": {"required": ["mode", "steps"], "properties": {"steps": STEPS}},
    },
}
GRID = {
    "required": ["h", "w", "x", "y"],
    "additionalProperties": False,
    "properties": {
        "h": {"type": "integer", "minimum": 1},
        "w": {"type": "integer", "minimum": 1, "maximum": 24},
        "x": {"type": "integer", "minimum": 0, "maximum": 23},
        "y": {"type": "integer", "minimum": 0},
    },
}
ROW = {
    "required": ["id", "title", "gridPos", "panels"],
    "properties": {"gridPos": GRID, "panels": {"const": []}},
}
PANEL = {
    "required": ["id", "title", "description", "datasource", "gridPos", "targets", "fieldConfig"],
    "properties": {
        "type": {"enum": ["stat", "timeseries", "bargauge", "table"]},
        "title": TEXT,
        "description": {"type": "string", "minLength": 20},
        "datasource": SOURCE,
        "gridPos": GRID,
        "targets": {"type": "array", "minItems": 1, "items": TARGET},
        "fieldConfig": {"required": ["defaults", "overrides"], "properties": {"defaults": FIELDS}},
    },
}
BOARD = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["uid", "title", "description", "panels", "templating", "time", "schemaVersion"],
    "properties": {
        "uid": TEXT,
        "description": TEXT,
        "editable": {"const": False},
        "panels": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type"],
                "if": {"properties": {"type": {"const": "row"}}},
                "then": ROW,
                "else": PANEL,
            },
        },
    },
}


def constants(board: dict[str, Any]) -> dict[str, str]:
    """The constants among a dashboard's variables."""
    variables = board["templating"]["list"]
    return {one["name"]: one["query"] for one in variables if one["type"] == "constant"}


def filled(text: str, **variables: str) -> str:
    """A query with Grafana's variables replaced; one that is not known stays."""
    for board in BOARDS:
        for name, value in constants(board).items():
            text = text.replace(f"${{{name}:raw}}", value)
    return re.sub(
        r"\$(?:\{(\w+):\w+\}|(\w+))",
        lambda found: variables.get(found[1] or found[2], found[0]),
        text,
    )


def asked_by(panel: dict[str, Any]) -> list[tuple[str, str]]:
    """The expressions of a panel with their legends."""
    spans = dict.fromkeys(("__rate_interval", "__range", "__interval"), "5m")
    return [
        (filled(target["expr"], gateway=".*", currency=".*", **spans), target["legendFormat"])
        for target in panel["targets"]
        if "expr" in target
    ]


@pytest.mark.parametrize("board", EVERY_BOARD)
def test_dashboards_are_complete(board: dict[str, Any]) -> None:
    """A panel has a title, a description, a provisioned source, queries, a unit and a place."""
    errors = jsonschema.Draft202012Validator(BOARD).iter_errors(board)
    assert [f"{error.json_path}: {error.message}" for error in errors] == []


@pytest.mark.parametrize("board", EVERY_BOARD)
def test_panels_do_not_overlap(board: dict[str, Any]) -> None:
    """No two panels share a cell of the grid, none leaves it, and each has an id and a title of its own."""
    taken: dict[tuple[int, int], str] = {}
    for panel in board["panels"]:
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24, panel["title"]
        for x in range(grid["x"], grid["x"] + grid["w"]):
            for y in range(grid["y"], grid["y"] + grid["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
    for unique in ("id", "title"):
        values = [panel[unique] for panel in board["panels"]]
        assert len(values) == len(set(values))


@pytest.mark.parametrize("panel", PANELS)
def test_panels_ask_for_what_is_exported(panel: dict[str, Any]) -> None:
    """An expression names only metrics, labels and values that there are, and leaves no variable."""
    for expression, legend in asked_by(panel):
        assert "$" not in expression
        assert promql.mistakes(expression) == []
        shown = set(re.findall(r"\{\{(\w+)\}\}", legend))
        assert shown - promql.read(expression).grouping == set()


@pytest.mark.parametrize("panel", PANELS)
def test_gauges_of_the_census_are_not_added_up(panel: dict[str, Any]) -> None:
    """Each scheduler exports the same census, so a panel takes its maximum."""
    for expression, _ in asked_by(panel):
        assert (
            re.findall(r"sum(?: by \([^)]*\))? \(renewd_(?!gateway_in_flight)\w+", expression) == []
        )


@pytest.mark.parametrize("board", EVERY_BOARD)
def test_constants_are_the_exponents_of_money(board: dict[str, Any]) -> None:
    """Where a dashboard turns minor units into units, it divides as billing/money.py says."""
    names = {0: "no_decimals", 3: "three_decimals", 4: "four_decimals"}
    expected = {
        name: "|".join(sorted(code for code, places in EXPONENTS.items() if places == exponent))
        for exponent, name in names.items()
    }
    assert constants(board) == expected
    assert set(EXPONENTS.values()) == {2, *names}


@pytest.mark.parametrize("board", EVERY_BOARD)
def test_variables_are_asked_of_exported_metrics(board: dict[str, Any]) -> None:
    """The choices of a variable come from a metric that has its label."""
    asked = [one for one in board["templating"]["list"] if one["type"] == "query"]
    assert [one["name"] for one in asked] == ["gateway", "currency"]
    for one in asked:
        assert one["query"]["query"] == f"label_values({one['query']['metric']}, {one['name']})"
        assert one["name"] in promql.EXPORTED[one["query"]["metric"]]
    for annotation in board["annotations"]["list"]:
        assert promql.mistakes(annotation.get("expr", "up")) == []


FAILED = """
INSERT INTO invoice (invoice_id, gateway, currency, amount_minor, status, first_declined_at) VALUES
  ('00000000-0000-0000-0000-000000000001', 'a', 'EUR', 1000, 'paid', '2026-03-01Z'),
  ('00000000-0000-0000-0000-000000000002', 'a', 'EUR', 3000, 'open', '2026-03-02Z'),
  ('00000000-0000-0000-0000-000000000003', 'b', 'EUR', 4000, 'uncollectible', '2026-03-03Z'),
  ('00000000-0000-0000-0000-000000000004', 'a', 'JPY', 500, 'paid', '2026-03-04Z'),
  ('00000000-0000-0000-0000-000000000005', 'c', 'EUR', 9000, 'paid', '2026-03-05Z'),
  ('00000000-0000-0000-0000-000000000006', 'a', 'USD', 9000, 'paid', '2026-03-06Z'),
  ('00000000-0000-0000-0000-000000000007', 'a', 'EUR', 9000, 'paid', '2026-05-01Z'),
  ('00000000-0000-0000-0000-000000000008', 'a', 'EUR', 9000, 'paid', NULL);
INSERT INTO attempt (invoice_id, ordinal, state, decline_code, decline_class)
SELECT invoice_id, 1, 'declined', 'insufficient_funds', 'soft' FROM invoice
 WHERE first_declined_at IS NOT NULL;
INSERT INTO attempt (invoice_id, ordinal, state, decline_code, decline_class)
VALUES ('00000000-0000-0000-0000-000000000002', 2, 'declined', 'lost_card', 'hard');
"""
"""Of March, gateways a and b, EUR and JPY: the first four."""


@pytest.fixture
async def granted(conn: Connection) -> AsyncIterator[Connection]:
    """Empty tables with the columns that grants.sql grants, and nothing else in sight."""
    transaction = conn.transaction()
    await transaction.start()
    grants = GRANT.findall(GRANTS)
    assert len(grants) == GRANTS.count("TO grafana;")
    for columns, table in grants:
        await conn.execute(
            f"CREATE TEMP TABLE {table} AS SELECT {columns} FROM public.{table} WITH NO DATA"
        )
    await conn.execute("SET LOCAL search_path = pg_temp")
    yield conn
    await transaction.rollback()


async def shown(conn: Connection, title: str) -> list[dict[str, Any]]:
    """What the panel shows of March, gateways a and b, EUR and JPY."""
    march = r"\1 BETWEEN '2026-03-01T00:00:00Z' AND '2026-04-01T00:00:00Z'"
    query = re.sub(r"\$__timeFilter\((\w+)\)", march, QUERIES[title])
    query = filled(query, gateway="'a','b'", currency="'EUR','JPY'")
    assert "$" not in query
    return [dict(row) for row in await conn.fetch(query)]


@pytest.mark.parametrize("title", QUERIES)
async def test_queries_read_only_what_is_granted(granted: Connection, title: str) -> None:
    """A panel's query needs no column that grants.sql withholds, and an empty database is no error."""
    assert len(await shown(granted, title)) <= 1


async def test_recovery_rates(granted: Connection) -> None:
    """Invoices count by the time of their first decline; what is open is neither recovered nor lost."""
    await granted.execute(FAILED)
    assert await shown(granted, "Recovery rate by count") == [{"recovered": 0.5}]
    assert await shown(granted, "Recovery rate of what is over") == [{"recovered": 2 / 3}]
    by_amount = [
        {"currency": "EUR", "recovered": 0.125},
        {"currency": "JPY", "recovered": 1.0},
    ]
    assert await shown(granted, "Recovery rate by amount") == by_amount


async def test_recovery_by_currency(granted: Connection) -> None:
    """Amounts are shown in units of their currency, which for some is the minor unit itself."""
    await granted.execute(FAILED)
    euro, yen = await shown(granted, "Recovery by currency")
    assert [*euro.values()] == ["EUR", 3, 1, 1, 1, 1 / 3, 0.125, 10.0, 30.0, 40.0]
    assert [*yen.values()] == ["JPY", 1, 1, 0, 0, 1.0, 1.0, 500.0, 0.0, 0.0]


async def test_recovery_by_code(granted: Connection) -> None:
    """An invoice counts under the code of its first decline, whatever came later."""
    await granted.execute(FAILED)
    (row,) = await shown(granted, "Recovery by first decline code")
    assert [*row.values()] == ["insufficient_funds", "soft", 4, 0.5]
