"""Our attempts against the gateway's own ledger, both ways, charge by charge."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from billing.lifecycle import AttemptState
from lab.demo.catalog import Json
from scheduler.store.figures import AttemptRow

SHOWN = 5

SAME: Mapping[str, frozenset[str]] = {
    "succeeded": frozenset({AttemptState.SUCCEEDED}),
    "declined": frozenset({AttemptState.DECLINED}),
    "canceled": frozenset({AttemptState.VOID}),
    "pending": frozenset({AttemptState.PENDING, AttemptState.UNKNOWN}),
    "requires_action": frozenset({AttemptState.ACTION_REQUIRED, AttemptState.UNKNOWN}),
}
"""What we may say of a charge that has this status there."""

_ON_RECORD = frozenset({AttemptState.SUCCEEDED, AttemptState.DECLINED})


@dataclass(frozen=True, slots=True)
class Comparison:
    """How many charges the gateway knows, and what does not fit, one line each."""

    charges: int
    unexplained: list[str]

    @property
    def agrees(self) -> bool:
        return not self.unexplained


def compare(charges: Iterable[Json], attempts: Iterable[AttemptRow]) -> Comparison:
    """Every charge is one attempt of ours with its amount and result, and every result a charge."""
    ours = {attempt.idempotency_key: attempt for attempt in attempts}
    seen: set[str] = set()
    unexplained: list[str] = []
    paid: set[str] = set()
    for charge in charges:
        fault = _fault(charge, ours.get(charge["idempotency_key"]))
        if charge["idempotency_key"] in seen:
            fault = "a second charge under one key"
        if charge["status"] == "succeeded":
            fault = "a second payment of one invoice" if charge["reference"] in paid else fault
            paid.add(charge["reference"])
        seen.add(charge["idempotency_key"])
        if fault is not None:
            unexplained.append(f"charge {charge['id']}: {fault}")
    unexplained += [
        f"attempt {key}: {attempt.state} here, and no charge there"
        for key, attempt in ours.items()
        if attempt.state in _ON_RECORD and key not in seen
    ]
    return Comparison(len(seen), unexplained)


def _fault(charge: Json, attempt: AttemptRow | None) -> str | None:
    if attempt is None:
        return "no attempt has its key"
    there = (charge["amount_minor"], charge["currency"])
    if there != (attempt.amount_minor, attempt.currency):
        return f"{there} there, {(attempt.amount_minor, attempt.currency)} here"
    if attempt.state not in SAME[charge["status"]]:
        return f"{charge['status']} there, {attempt.state} here"
    return None
