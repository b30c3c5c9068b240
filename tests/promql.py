"""Reads PromQL just far enough to say what an expression asks for that nobody exports."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client import Counter, Gauge, Histogram

from billing import outcomes
from billing.lifecycle import AttemptState, NoticeState, RejectedState
from billing.outcomes import DeclineClass
from scheduler.sweeps import SWEEPS
from worker import metrics
from worker.platform.verdicts import Result
from worker.settings import METRICS_PORTS

WORDS = frozenset({"sum", "max", "min", "avg", "count", "and", "or", "unless", "offset"})
"""What looks like the name of a metric and is none; functions are told by their parenthesis."""

TOKEN = re.compile(
    r"""
    \b(?:by|on|without|ignoring)\s*\((?P<grouping>[^)]*)\)
    | (?P<name>[a-zA-Z_:][\w:]*) (?: (?P<call>\s*\() | (?P<matchers>\{[^}]*\})? )
    | \[[^\]]*\] | "[^"]*" | \d[\w.]*
    """,
    re.VERBOSE,
)
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')

OF_TARGETS = frozenset({"job", "instance"})
JOBS = {*(f"renewd-{process}" for process in METRICS_PORTS), "rabbitmq"}

FOREIGN: dict[str, frozenset[str]] = {
    "up": frozenset(),
    "ALERTS": frozenset({"alertname", "alertstate", "severity"}),
    "process_cpu_seconds_total": frozenset(),
    "process_resident_memory_bytes": frozenset(),
    "rabbitmq_alarms_memory_used_watermark": frozenset(),
    "rabbitmq_alarms_free_disk_space_watermark": frozenset(),
}
"""Series of others, as seen on Prometheus 2.42, prometheus-client 0.26 and RabbitMQ 3.10."""

ANSWERS = {name.lower() for name in dir(outcomes) if name[:1].isupper()} | {"error"}
ORDINALS = {str(ordinal) for ordinal in range(1, metrics.ORDINALS_SHOWN + 1)} | {"10+"}
VALUES: dict[tuple[str, str], set[str]] = {
    ("renewd_payment_attempts_total", "outcome"): set(AttemptState),
    ("renewd_payment_attempts_total", "decline_class"): set(DeclineClass),
    ("renewd_payment_attempts_total", "ordinal"): ORDINALS,
    ("renewd_attempts_unsettled_oldest_seconds", "state"): set(AttemptState),
    ("renewd_platform_rejected_events", "state"): set(RejectedState),
    ("renewd_gateway_request_seconds_count", "outcome"): ANSWERS,
    ("renewd_due_lag_seconds", "sweep"): {sweep.name for sweep in SWEEPS},
    ("renewd_platform_events_total", "result"): set(Result),
    ("renewd_doorbells_total", "result"): {"done", "failed"},
    ("renewd_notices_total", "result"): set(NoticeState),
    ("ALERTS", "alertstate"): {"pending", "firing"},
}
"""What the values of a label can be; a value that is asked for and cannot be is a typing error."""

OPEN_LABELS = frozenset({"gateway", "currency"})
"""Their values come from settings and plans."""


class Matcher(NamedTuple):
    """`label op "value"`."""

    label: str
    op: str
    value: str


class Asked(NamedTuple):
    """What an expression asks for: its metrics with their matchers, and the labels it groups by."""

    selectors: list[tuple[str, list[Matcher]]]
    grouping: set[str]

    def metrics(self) -> set[str]:
        return {name for name, _ in self.selectors}

    def labels(self) -> set[str]:
        return self.grouping | {one.label for _, matchers in self.selectors for one in matchers}


def read(expression: str) -> Asked:
    """Take an expression apart; variables must have been replaced before."""
    asked = Asked([], set())
    for token in TOKEN.finditer(expression):
        if token["grouping"] is not None:
            asked.grouping.update(filter(None, re.split(r"[\s,]+", token["grouping"])))
        elif token["name"] and not token["call"] and token["name"] not in WORDS:
            found = [Matcher(*matcher) for matcher in MATCHER.findall(token["matchers"] or "")]
            asked.selectors.append((token["name"], found))
    return asked


def mistakes(expression: str) -> list[str]:
    """What an expression asks for that is not there; also when it asks for nothing at all."""
    asked = read(expression)
    known = OF_TARGETS.union(*(EXPORTED.get(name, frozenset()) for name in asked.metrics()))
    wrong = [f"label {label}" for label in sorted(asked.grouping - known)]
    wrong += [] if asked.selectors else ["no metric"]
    for name, matchers in asked.selectors:
        if name not in EXPORTED:
            wrong.append(f"metric {name}")
            continue
        wrong += [f"{one} of {name}" for one in matchers if not _can_match(name, one)]
    return wrong


def _can_match(name: str, matcher: Matcher) -> bool:
    """Whether the metric has the label, and each alternative fits a value that it can have."""
    if matcher.label not in EXPORTED[name] | OF_TARGETS:
        return False
    if matcher.label in OPEN_LABELS:
        return True
    values = JOBS if matcher.label == "job" else VALUES[name, matcher.label]
    is_pattern = matcher.op.endswith("~") and "(" not in matcher.value
    wanted = matcher.value.split("|") if is_pattern else [matcher.value]
    return all(any(re.fullmatch(one, value) for value in values) for one in wanted)


def _exported() -> Iterator[tuple[str, frozenset[str]]]:
    for collector in metrics.REGISTRY._collector_to_names:
        match collector:
            case Counter():
                yield f"{collector._name}_total", frozenset(collector._labelnames)
            case Gauge():
                yield collector._name, frozenset(collector._labelnames)
            case Histogram():
                labels = frozenset(collector._labelnames)
                yield f"{collector._name}_bucket", labels | {"le"}
                yield f"{collector._name}_sum", labels
                yield f"{collector._name}_count", labels
            case _:  # process_*, of the library
                pass


EXPORTED = dict(_exported()) | FOREIGN
"""Every series that may be asked for, with its labels."""
