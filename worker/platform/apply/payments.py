"""A gateway's later word, told by the platform: never taken for the truth, only as a hint to look."""

from billing.events import PlatformEvent
from billing.events.payloads import PaymentReported
from billing.lifecycle import UNSETTLED_ATTEMPTS
from worker.platform.desk import Desk
from worker.platform.verdicts import Applied, Kind, Missing, Ref, Verdict
from worker.store.hints import Trace


def report(desk: Desk, event: PlatformEvent, told: PaymentReported) -> Verdict:
    """Have reconciliation ask the gateway now; what is settled already stays as it is."""
    del event
    trace = _trace(desk, told)
    if trace is None:
        name = told.idempotency_key or told.gateway_ref
        field = "data.gateway_ref" if told.idempotency_key is None else "data.idempotency_key"
        return Missing(Ref(Kind.PAYMENT, f"{told.gateway}:{name}"), field)
    if trace.state in UNSETTLED_ATTEMPTS:
        desk.look_again(trace)
    return Applied()


def _trace(desk: Desk, told: PaymentReported) -> Trace | None:
    names = [told.idempotency_key, told.gateway_ref]
    if told.gateway_ref is not None:
        names.append(desk.found_keys.get((told.gateway, told.gateway_ref)))
    found = (desk.traces.get((told.gateway, name)) for name in names if name is not None)
    return next((trace for trace in found if trace is not None), None)
