"""What is documented is what there is: settings, metrics, actors, messages, transitions, commands."""

import dataclasses
import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import pytest

from billing import lifecycle
from billing.messages import MessageType
from scheduler.invariants import INVARIANTS
from scheduler.sweeps import SWEEPS
from worker import metrics
from worker.actors import Actors
from worker.settings import describe_settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
LIFECYCLE = (ROOT / "docs/lifecycle.md").read_text()
CONTRACT = (ROOT / "docs/contract/platform-events.md").read_text()
OPERATIONS = (ROOT / "docs/operations.md").read_text()

NAMED = r"`((?:billing|worker|scheduler|lab|console|deploy|tests)/[\w./]+)`"

MADE_LATER = ("deploy/secrets/", "deploy/.env")
"""Files that an operator makes."""

MACHINES: dict[str, Mapping[StrEnum, frozenset[StrEnum]]] = {
    "subscription": lifecycle.SUBSCRIPTION_TRANSITIONS,  # type: ignore[dict-item]
    "invoice": lifecycle.INVOICE_TRANSITIONS,  # type: ignore[dict-item]
    "attempt": lifecycle.ATTEMPT_TRANSITIONS,  # type: ignore[dict-item]
    "notice": lifecycle.NOTICE_TRANSITIONS,  # type: ignore[dict-item]
    "rejected_event": lifecycle.REJECTED_TRANSITIONS,  # type: ignore[dict-item]
}


def drawn(table: Mapping[StrEnum, frozenset[StrEnum]]) -> str:
    """A table as the arrows of a Mermaid state diagram, in the order of its enum."""
    lines = ["stateDiagram-v2"]
    for before, afters in table.items():
        lines += [f"    {before} --> {after}" for after in type(before) if after in afters]
        lines += [f"    {before} --> [*]"] if not afters else []
    return "\n".join(lines)


def test_every_setting_is_in_the_readme_with_its_default_and_meaning() -> None:
    """The table of settings is what `renewd settings` lists."""
    missing = [
        line.env
        for line in describe_settings()
        if f"| `{line.env}` | {line.default or '–'} | {line.unit or '–'} | {line.meaning} |"
        not in README
    ]
    assert missing == []


def test_every_metric_is_in_the_readme() -> None:
    """The table of metrics is what the processes export."""
    names = [
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in metrics.REGISTRY.collect()
        if family.name.startswith("renewd_")
    ]
    shown = re.findall(r"^\| `(renewd_\w+)` \|", README, re.MULTILINE)
    assert sorted(shown) == sorted(names)


@pytest.mark.parametrize("machine", MACHINES)
def test_the_diagram_of_a_machine_is_its_table(machine: str) -> None:
    """docs/lifecycle.md draws exactly the legal moves."""
    assert f"```mermaid\n{drawn(MACHINES[machine])}\n```" in LIFECYCLE


def test_every_message_out_is_in_the_contract() -> None:
    """A type that is sent is promised: by its whole name, or by the end after a shared prefix."""
    missing = [
        kind
        for kind in MessageType
        if f"`{kind}`" not in CONTRACT and f"`.{kind.rpartition('.')[2]}`" not in CONTRACT
    ]
    assert missing == []


def test_every_actor_and_sweep_is_in_the_operations_manual() -> None:
    """Their names are labels of metrics and log lines that an operator has to understand."""
    names = {field.name for field in dataclasses.fields(Actors)} | {sweep.name for sweep in SWEEPS}
    assert [name for name in sorted(names) if f"`{name}`" not in OPERATIONS] == []


def test_every_invariant_is_in_the_operations_manual() -> None:
    """An invariant that breaks is an alarm: the manual says what it means."""
    assert [one.name for one in INVARIANTS if f"`{one.name}`" not in OPERATIONS] == []


def test_every_file_that_a_document_names_is_there() -> None:
    """Links and paths of README and docs lead somewhere."""
    documents = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").glob("*.md")),
    ]
    linked = [
        (path, path.parent / target)
        for path in documents
        for target in re.findall(r"\]\(([^)#:]+)[)#]", path.read_text())
    ]
    named = [
        (path, ROOT / name)
        for path in documents
        for name in re.findall(NAMED, path.read_text())
        if not name.startswith(MADE_LATER)
    ]
    broken = [f"{path.name}: {target}" for path, target in linked + named if not target.exists()]
    assert broken == []
