"""Every metric of every process, in one file. Labels are bounded: classes and names, never ids.

Counters and histograms belong to the process that counts; gauges that describe the database come
from the scheduler's census and are the same in every scheduler: aggregate them with `max by`, never
with `sum`. Amounts are in minor units of the currency in the label.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY = CollectorRegistry()
"""What `/metrics` shows: the metrics of this file and `process_*` (CPU, memory, descriptors)."""
ProcessCollector(registry=REGISTRY)

_HOUR = 3600
_DAY = 24 * _HOUR
RECOVERY_BUCKETS = (
    *(hours * _HOUR for hours in (1, 3, 6, 12)),
    *(days * _DAY for days in (1, 2, 3, 5, 8, 11, 15, 20, 26, 30)),
)
"""Hours for technical declines, then the days of the default ladder and the end of the window."""
CALL_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 1, 2, 4, 6, 9, 12, 18, 25, 30)
"""From a sandbox on loopback to the limits of worker/limits.py."""
ORDINALS_SHOWN = 9


def _counter(name: str, meaning: str, *labels: str) -> Counter:
    return Counter(f"renewd_{name}", meaning, labels, registry=REGISTRY)


def _gauge(name: str, meaning: str, *labels: str) -> Gauge:
    return Gauge(f"renewd_{name}", meaning, labels, registry=REGISTRY)


def _histogram(name: str, meaning: str, *labels: str, buckets: tuple[float, ...]) -> Histogram:
    return Histogram(f"renewd_{name}", meaning, labels, registry=REGISTRY, buckets=buckets)


BUILD = _gauge("build_info", "1, labelled with the version that runs.", "version")

PAYMENT_ATTEMPTS = _counter(
    "payment_attempts_total",
    "Outcomes committed for payment attempts; decline_class is empty unless declined.",
    "outcome",
    "decline_class",
    "ordinal",
)
UNLISTED_CODES = _counter(
    "decline_codes_unlisted_total", "Declines with a code that no table lists, by code.", "code"
)
PAYMENTS_RECOVERED = _counter(
    "payment_recovered_total", "Invoices paid after a first decline, by what recovered them.", "by"
)
RECOVERED_AMOUNT = _counter(
    "payment_recovered_amount_minor_total", "Money of recovered invoices.", "currency"
)
RECOVERY_SECONDS = _histogram(
    "payment_recovery_seconds",
    "Business time from the first decline of an invoice to its payment.",
    buckets=RECOVERY_BUCKETS,
)
ATTEMPTS_UNSETTLED = _gauge(
    "attempts_unsettled", "Payment attempts whose outcome is not final yet (census).", "state"
)
UNSETTLED_OLDEST_SECONDS = _gauge(
    "attempts_unsettled_oldest_seconds", "Age of the oldest unsettled attempt (census).", "state"
)

GATEWAY_REQUEST_SECONDS = _histogram(
    "gateway_request_seconds",
    "Time of one request to a gateway, network tries included.",
    "gateway",
    "outcome",
    buckets=CALL_BUCKETS,
)
GATEWAY_IN_FLIGHT = _gauge(
    "gateway_in_flight", "Requests to a gateway that wait for their answer.", "gateway"
)

DUE_LAG_SECONDS = _gauge(
    "due_lag_seconds", "Now minus due instant of the oldest row no sweep has claimed.", "sweep"
)
SWEEP_CLAIMED = _counter("sweep_claimed_total", "Rows claimed by a sweep.", "sweep")
SWEEP_LEASES_EXPIRED = _counter(
    "sweep_leases_expired_total", "Rows claimed again because their lease had run out.", "sweep"
)
SWEEP_SECONDS = _histogram(
    "sweep_seconds",
    "Time of one sweep: claim and doorbells.",
    "sweep",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
ROWS_PARKED = _gauge(
    "rows_parked", "Rows set aside and attempts frozen until a person releases them (census)."
)
PARKED = _counter("parked_total", "Rows set aside, by kind of row.", "kind")

PLATFORM_EVENTS = _counter(
    "platform_events_total", "Platform messages taken in, by type and result.", "type", "result"
)
PLATFORM_REJECTED = _gauge(
    "platform_rejected_events", "Platform messages without effect (census).", "state"
)
OUTBOX_AGE_SECONDS = _gauge("outbox_age_seconds", "Age of the oldest unpublished message out.")
OUTBOX_PUBLISHED = _counter("outbox_published_total", "Messages out confirmed by the broker.")

INVOICES_PAST_DUE = _gauge(
    "invoices_past_due", "Open invoices with a declined attempt (census).", "currency"
)
PAST_DUE_AMOUNT = _gauge(
    "invoices_past_due_amount_minor", "Money of the invoices past due (census).", "currency"
)
SUBSCRIPTIONS = _gauge("subscriptions", "Subscriptions by status (census).", "status")
CHARGING_PAUSED = _gauge("charging_paused", "Kill switches that are on (census).")
INVARIANT_ROWS = _gauge(
    "invariant_rows", "Rows that break an invariant; anything but 0 is an incident.", "invariant"
)
CENSUS_TIMESTAMP = _gauge(
    "census_timestamp_seconds", "Unix time of the last census: older than 2 minutes, all are stale."
)

NOTICES = _counter("notices_total", "Mails by kind and what became of them.", "kind", "result")

ACTOR_SECONDS = _histogram(
    "actor_seconds", "Time of one doorbell in an actor.", "actor", buckets=CALL_BUCKETS
)
DOORBELLS = _counter("doorbells_total", "Doorbells answered: done or failed.", "actor", "result")
STALE_ACKS = _counter(
    "stale_acks_total", "Acknowledgements dropped because their channel was gone."
)

_PLATFORM_TYPE_NAMES = """
seller.upserted plan.upserted customer.upserted customer.erasure_requested
payment_method.attached payment_method.updated payment_method.removed mandate.revoked
subscription.created subscription.cancel_requested subscription.cancel_undone subscription.paused
subscription.resumed subscription.plan_change_requested subscription.billing_day_change_requested
subscription.payment_method_changed subscription.coupon_applied subscription.coupon_removed
subscription.sync_requested invoice.collection_requested usage.recorded purchase.recorded
coupon.upserted refund.requested payment.settled payment.failed dispute.opened dispute.closed
learner.progressed
"""
_PLATFORM_TYPES = frozenset(f"platform.{name}" for name in _PLATFORM_TYPE_NAMES.split())


# Looking a child up by its labels costs more than counting with it; labels are few and known.
_attempts = cache(PAYMENT_ATTEMPTS.labels)
_in_flight = cache(GATEWAY_IN_FLIGHT.labels)
_request_seconds = cache(GATEWAY_REQUEST_SECONDS.labels)


def show_build() -> None:
    """Set `renewd_build_info`; call once per process."""
    try:
        running = version("renewd")
    except PackageNotFoundError:  # run from a tree that was never installed
        running = "unknown"
    BUILD.labels(running).set(1)


def count_attempt(*, outcome: str, decline_class: str | None, ordinal: int) -> None:
    """Count an outcome that was committed; ordinals above nine share a label."""
    shown = str(ordinal) if ordinal <= ORDINALS_SHOWN else f"{ORDINALS_SHOWN + 1}+"
    _attempts(outcome, decline_class or "", shown).inc()


UNLISTED_CODES_SHOWN = 50
_unlisted: set[str] = set()


def count_unlisted_code(code: str) -> None:
    """Count a decline code that no table lists, so that the tables can grow; after 50 it is `other`."""
    shown = code[:40]
    if shown not in _unlisted and len(_unlisted) >= UNLISTED_CODES_SHOWN:
        shown = "other"
    _unlisted.add(shown)
    UNLISTED_CODES.labels(shown).inc()


def count_recovery(*, by: str, amount_minor: int, currency: str, seconds: float) -> None:
    """Count an invoice that was paid `seconds` of business time after its first decline."""
    PAYMENTS_RECOVERED.labels(by).inc()
    RECOVERED_AMOUNT.labels(currency).inc(amount_minor)
    RECOVERY_SECONDS.observe(seconds)


def count_sweep(sweep: str, *, claimed: int, leases_expired: int, seconds: float) -> None:
    """Count one round of a sweep."""
    SWEEP_CLAIMED.labels(sweep).inc(claimed)
    SWEEP_LEASES_EXPIRED.labels(sweep).inc(leases_expired)
    SWEEP_SECONDS.labels(sweep).observe(seconds)


def count_platform_event(type_name: str | None, result: str) -> None:
    """Count a platform message; a type outside the contract is shown as `other`."""
    shown = type_name if type_name in _PLATFORM_TYPES else "other"
    PLATFORM_EVENTS.labels(shown, result).inc()


@dataclass(slots=True)
class GatewayRequest:
    """A request on its way; whoever reads the answer writes its outcome class here."""

    outcome: str = "error"


@contextmanager
def gateway_request(gateway: str) -> Iterator[GatewayRequest]:
    """Measure one request: in flight while inside, its time by outcome when it ends."""
    request = GatewayRequest()
    in_flight = _in_flight(gateway)
    started = time.perf_counter()
    in_flight.inc()
    try:
        yield request
    finally:
        in_flight.dec()
        seconds = time.perf_counter() - started
        _request_seconds(gateway, request.outcome).observe(seconds)


_shown: dict[Gauge, set[str]] = {}


def set_all(gauge: Gauge, values: Mapping[str, float]) -> None:
    """Set a gauge of one label to exactly `values`; a label that is no longer counted goes away."""
    for label, value in values.items():
        gauge.labels(label).set(value)
    for label in _shown.get(gauge, set()) - values.keys():
        gauge.remove(label)
    _shown[gauge] = set(values)
