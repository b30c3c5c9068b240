"""The sandbox gateway without its wire: gateway time, faults, and who answers what.

The life of a POST: outage, then a fault that keeps it from arriving, then the key store
(idempotency.py: replay, other body, in flight, first use), then a fault that spoils the answer.
"""

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import assert_never

from pydantic_core import to_json

from lab.sandbox.answers import Answer, not_found, server_error_body, spoil, unreached
from lab.sandbox.clock import GatewayClock
from lab.sandbox.config import FaultPlan, SandboxConfig
from lab.sandbox.entries import clock_entry, fault_entry
from lab.sandbox.execution import Till
from lab.sandbox.faults import EFFECTS, NO_FAULT, Effect, FaultBook, FaultDraws
from lab.sandbox.idempotency import KeyDesk, Post
from lab.sandbox.ledger import Ledger
from lab.sandbox.records import ChargeStatus, Json, LateRequest, Order, RefundOrder, Settlement
from lab.sandbox.restore import restore


class Gateway:
    """All behaviour of the contract on values; knows neither sockets nor HTTP."""

    def __init__(self, config: SandboxConfig, ledger: Ledger) -> None:
        """Takes up where the ledger ends. Raises LedgerError, PopulationError."""
        self.book, fixed_at = restore(ledger.entries())
        self.till = Till(config, self.book, ledger)
        self.faults = FaultBook(config.plan(), seed=config.seed)
        self._desk = KeyDesk(self.book, self.till, ledger)
        self._seed = config.seed
        self._ledger = ledger
        self._clock = GatewayClock(fixed_at)

    def now(self) -> datetime:
        """Gateway time, after everything that was due by then has happened."""
        now = self._clock.now()
        while due := self.book.next_due(now):
            due_at, event = due
            match event:
                case Settlement():
                    self.till.settle(self.book.charges[event.charge_id], due_at)
                case LateRequest():
                    draws = self.faults.of(self._token(event.order))
                    self._desk.arrive_late(event, due_at, draws.settings.key_lifetime_hours)
                case _:
                    assert_never(event)
        return now

    def set_clock(self, now: datetime | None) -> None:
        """Move gateway time; what becomes due by it happens at its own instants."""
        before = self._clock.now()
        self._clock.set(now)
        self._ledger.append(clock_entry(self._clock.fixed_at, before))
        self.now()

    def set_faults(self, plan: FaultPlan) -> None:
        """From the next request on."""
        self.faults = FaultBook(plan, seed=self._seed)

    def stats(self) -> Json:
        """Charges by status, captured and refunded sums by currency, references charged twice."""
        by_status: Counter[str] = Counter()
        captured_minor: Counter[str] = Counter()
        refunded_minor: Counter[str] = Counter()
        for charge in self.book.charges:
            by_status[charge.status] += 1
            if charge.status is ChargeStatus.SUCCEEDED:
                captured_minor[charge.order.currency] += charge.order.amount_minor
                refunded_minor[charge.order.currency] += charge.amount_refunded_minor
        return {
            "charges": len(self.book.charges),
            "charges_by_status": dict(by_status),
            "refunds": len(self.book.refunds),
            "captured_minor": dict(captured_minor),
            "refunded_minor": dict(refunded_minor),
            "references_charged_twice": self.book.references_charged_twice(),
        }

    def post(self, order: Order, *, key: str, body_hash: str, monotonic: float) -> Answer:
        """One POST of a charge or a refund. Raises Refused for what changes nothing."""
        at = self.now()
        draws = self.faults.of(self._token(order))
        nth = self._count(draws, key)
        delay_s = draws.latency_s(key, nth)
        effect = draws.outage_at(at) or self._drawn_effect(draws, key, nth, at)
        if not effect.reaches:
            return unreached(effect, draws, delay_s)
        post = Post(order, key, body_hash, at, monotonic, nth, delay_s, draws.settings)
        return self._desk.answer(post, effect, draws)

    def cancel(self, charge_id: str) -> Answer:
        """End an open charge and answer what is now final. Raises Refused: 404."""

        def end(now: datetime) -> Json:
            charge = self.book.charges.get(charge_id)
            if charge is None:
                raise not_found("charge")
            self.till.cancel(charge, now)
            return charge.answer()

        return self.read(f"cancel {charge_id}", end)

    def read(self, target: str, look_up: Callable[[datetime], Json]) -> Answer:
        """Answer a look-up, unless an outage or a read fault comes first. Raises Refused."""
        now = self.now()
        draws = self.faults.everywhere
        nth = self._count(draws, target)
        delay_s = draws.latency_s(target, nth)
        fault = draws.of_read(target, nth)
        effect = draws.outage_at(now) or (EFFECTS[fault] if fault else NO_FAULT)
        if not effect.reaches:
            return unreached(effect, draws, delay_s)
        if effect.status != 200:
            return Answer(effect.status, server_error_body(effect.status), delay_s)
        return spoil(Answer(200, to_json(look_up(now)), delay_s), effect, draws)

    def _drawn_effect(self, draws: FaultDraws, key: str, nth: int, at: datetime) -> Effect:
        fault = draws.of_charge(key, nth)
        if fault is None:
            return NO_FAULT
        self._ledger.append(fault_entry(key=key, nth=nth, fault=fault, at=at))
        return EFFECTS[fault]

    def _count(self, draws: FaultDraws, key: str) -> int:
        """Which request of its key this is, from 1; 0 where nothing depends on it."""
        if not draws.counts_requests:
            return 0
        self.book.requests_by_key[key] += 1
        return self.book.requests_by_key[key]

    def _token(self, order: Order) -> str:
        """The token whose faults apply; a refund takes its charge's."""
        if not isinstance(order, RefundOrder):
            return order.payment_method
        charge = self.book.charges.get(order.charge)
        return charge.order.payment_method if charge else ""
