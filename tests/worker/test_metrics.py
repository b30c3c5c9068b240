"""The metrics keep the house's rules and their helpers count what they say."""

from prometheus_client import Metric

from worker import metrics

UNITS = ("_total", "_seconds", "_minor", "_info")
COUNTED_THINGS = {
    "renewd_attempts_unsettled",
    "renewd_charging_paused",
    "renewd_gateway_in_flight",
    "renewd_invariant_rows",
    "renewd_invoices_past_due",
    "renewd_platform_rejected_events",
    "renewd_rows_parked",
    "renewd_subscriptions",
}
UNBOUNDED = {"id", "subscription_id", "customer_id", "invoice_id", "seller_id", "code", "key"}


def ours() -> list[Metric]:
    return [
        metric for metric in metrics.REGISTRY.collect() if not metric.name.startswith("process")
    ]


def value(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(name, labels) or 0


def test_names_have_prefix_and_unit() -> None:
    """Every name begins with renewd_ and ends with a unit, or is a gauge that counts a thing."""
    for metric in ours():
        name = metric.name + "_total" * (metric.type == "counter")
        assert name.startswith("renewd_")
        assert name.endswith(UNITS) or (name in COUNTED_THINGS and metric.type == "gauge"), name


def test_every_metric_is_explained() -> None:
    """Every metric has a sentence that says what it is."""
    unexplained = [metric.name for metric in ours() if not metric.documentation.endswith(".")]
    assert unexplained == []


def test_labels_are_bounded() -> None:
    """No label holds an id or a gateway's code."""
    for collector in metrics.REGISTRY._collector_to_names:
        if collector is metrics.UNLISTED_CODES:
            continue  # names codes on purpose, fifty of them at most
        labels: tuple[str, ...] = getattr(collector, "_labelnames", ())
        assert UNBOUNDED.intersection(labels) == set()


def test_high_ordinals_share_a_label() -> None:
    """Ordinals above nine are counted together."""
    for ordinal in (10, 17):
        metrics.count_attempt(outcome="probed", decline_class="soft", ordinal=ordinal)
    labels = {"outcome": "probed", "decline_class": "soft", "ordinal": "10+"}
    assert value("renewd_payment_attempts_total", **labels) == 2


def test_unknown_platform_types_share_a_label() -> None:
    """What the contract does not name is counted as other, so that nobody outside makes labels."""
    metrics.count_platform_event("platform.nonsense", "probed")
    metrics.count_platform_event(None, "probed")
    metrics.count_platform_event("platform.plan.upserted", "probed")
    assert value("renewd_platform_events_total", type="other", result="probed") == 2
    labels = {"type": "platform.plan.upserted", "result": "probed"}
    assert value("renewd_platform_events_total", **labels) == 1


def test_gateway_request_is_measured_by_outcome() -> None:
    """A request is in flight while it lasts and its time is kept under the outcome it got."""
    with metrics.gateway_request("probed") as request:
        assert value("renewd_gateway_in_flight", gateway="probed") == 1
        request.outcome = "approved"
    assert value("renewd_gateway_in_flight", gateway="probed") == 0
    labels = {"gateway": "probed", "outcome": "approved"}
    assert value("renewd_gateway_request_seconds_count", **labels) == 1


def test_set_all_forgets_what_is_gone() -> None:
    """A status that no longer has rows is not shown with its old number."""
    metrics.set_all(metrics.SUBSCRIPTIONS, {"active": 3, "past_due": 1})
    metrics.set_all(metrics.SUBSCRIPTIONS, {"active": 4})
    assert value("renewd_subscriptions", status="active") == 4
    shown = {"status": "past_due"}
    assert metrics.REGISTRY.get_sample_value("renewd_subscriptions", shown) is None
