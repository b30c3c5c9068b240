"""Prometheus finds every process, and every alarm asks for what is exported and says what to do."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import promql
from worker.settings import METRICS_PORTS

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
OPERATIONS = DEPLOY.parent / "docs" / "operations.md"
PROMETHEUS = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text())
GROUPS = yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text())["groups"]
RULES: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
ALARMS = [pytest.param(rule, id=rule["alert"]) for rule in RULES]
RULE_TESTS = ("prometheus/alerts_test.yaml", "prometheus/alerts_week_test.yaml")


def test_a_wrong_expression_is_seen() -> None:
    """A metric, a label, a value or a grouping that does not exist is a mistake."""
    wrong = {
        "max(renewd_due_lags_seconds)": ["metric renewd_due_lags_seconds"],
        "max by (state) (renewd_due_lag_seconds)": ["label state"],
        'renewd_rows_parked{kind="renewal"}': ["kind"],
        'renewd_due_lag_seconds{sweep=~"renewals|colections"}': ["colections"],
        "vector(0)": ["no metric"],
    }
    for expression, said in wrong.items():
        found = promql.mistakes(expression)
        assert len(found) == len(said), expression
        assert said[0] in found[0]


@pytest.mark.parametrize("rule", ALARMS)
def test_alarms_ask_for_what_is_exported(rule: dict[str, Any]) -> None:
    """An alarm names only metrics, labels and values of labels that there are."""
    assert promql.mistakes(rule["expr"]) == []


@pytest.mark.parametrize("rule", ALARMS)
def test_alarms_are_explained(rule: dict[str, Any]) -> None:
    """An alarm says in words what is wrong, and its runbook is a heading of docs/operations.md."""
    headings = re.findall(r"^### (\w+)$", OPERATIONS.read_text(), flags=re.MULTILINE)
    told = rule["annotations"]
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert min(len(told["summary"]), len(told["description"])) > 15
    assert rule["alert"] in headings
    assert told["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"


@pytest.mark.parametrize("rule", ALARMS)
def test_alarms_name_labels_they_have(rule: dict[str, Any]) -> None:
    """A label that an alarm's text shows survives its aggregation."""
    shown = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    assert shown - promql.read(rule["expr"]).labels() == set()


def test_severity_stands_in_the_runbook() -> None:
    """docs/operations.md says of each alarm, first of all, whether it pages, and explains no other."""
    told = re.findall(r"^### (\w+)\n\n\*(page|ticket)\.\*", OPERATIONS.read_text(), re.MULTILINE)
    assert dict(told) == {rule["alert"]: rule["labels"]["severity"] for rule in RULES}


def test_alarms_cover_what_must_be_seen() -> None:
    """Whatever may stand for trouble has an alarm."""
    asked = set[str]().union(*(promql.read(rule["expr"]).metrics() for rule in RULES))
    watched = {
        *("renewd_due_lag_seconds", "renewd_charging_paused", "renewd_invariant_rows"),
        *("renewd_outbox_age_seconds", "renewd_attempts_unsettled_oldest_seconds"),
        *("renewd_rows_parked", "renewd_platform_events_total", "renewd_payment_attempts_total"),
        *("renewd_gateway_request_seconds_count", "renewd_census_timestamp_seconds", "up"),
    }
    assert watched - asked == set()


def test_every_alarm_is_rehearsed() -> None:
    """Every alarm rings in one of the tests that promtool runs."""
    texts = "".join((DEPLOY / name).read_text() for name in RULE_TESTS)
    rung = set(re.findall(r'alertname(?:=|: )"?(\w+)', texts))
    assert {rule["alert"] for rule in RULES} - rung == set()


def test_every_process_is_scraped() -> None:
    """Prometheus looks for each process under its name, at its default port."""
    scraped = {job["job_name"]: job["dns_sd_configs"][0] for job in PROMETHEUS["scrape_configs"]}
    assert set(scraped) == promql.JOBS
    for process, port in METRICS_PORTS.items():
        found = scraped[f"renewd-{process}"]
        assert (found["names"], found["port"]) == ([process], port)


@pytest.mark.timeout(300)
def test_promtool_agrees() -> None:
    """Where promtool is installed, it takes the configuration, and every alarm rings when it should."""
    promtool = shutil.which("promtool")
    if promtool is None:
        return
    for arguments in (
        ["check", "config", "prometheus/prometheus.yaml"],
        ["test", "rules", *RULE_TESTS],
    ):
        done = subprocess.run(
            [promtool, *arguments], cwd=DEPLOY, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
