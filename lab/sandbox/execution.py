"""Moves the sandbox's money: each act changes the book and appends its ledger entry, once."""

from datetime import datetime, timedelta
from typing import assert_never

from lab.draws import stream_key
from lab.sandbox.book import Book
from lab.sandbox.config import SandboxConfig
from lab.sandbox.entries import charge_entry, refund_entry, status_entry
from lab.sandbox.ledger import Ledger
from lab.sandbox.records import (
    OPEN_STATUSES,
    Charge,
    ChargeOrder,
    ChargeStatus,
    Json,
    Refund,
    RefundOrder,
    decline_json,
)
from lab.sandbox.simulation import Simulator
from lab.sandbox.tokens import Flow, Script, Simulated, read_token


class Till:
    """Executes orders that were checked before; decides no fault and knows no key store."""

    def __init__(self, config: SandboxConfig, book: Book, ledger: Ledger) -> None:
        """Raises PopulationError."""
        self._config = config
        self._book = book
        self._ledger = ledger
        self._simulator = Simulator(config)
        self._id_prefix = f"{stream_key(config.seed, 'sandbox') & 0xFFFFFF:06x}"

    def takes(self, payment_method: str) -> bool:
        """Whether the token is one that this sandbox can answer for."""
        token = read_token(payment_method)
        return self._simulator.knows(token) if isinstance(token, Simulated) else token is not None

    def charge(self, order: ChargeOrder, *, key: str, at: datetime, trace: Json) -> Charge:
        """Execute one charge. `trace` goes into the ledger entry as it is."""
        number = len(self._book.charges) + 1
        charge = Charge(
            id=f"ch_{self._id_prefix}{number:010d}",
            number=number,
            order=order,
            idempotency_key=key,
            created_at=at,
        )
        self._begin(charge)
        self._book.add_charge(charge)
        self._ledger.append(charge_entry(charge) | trace)
        return charge

    def refund(self, order: RefundOrder, *, key: str, at: datetime, trace: Json) -> Refund | None:
        """Execute one refund; None if it is more than what is left of the captured amount."""
        if order.amount_minor > self.refundable_minor(order.charge):
            return None
        number = len(self._book.refunds) + 1
        refund = Refund(f"re_{self._id_prefix}{number:010d}", number, order, key, at)
        self._book.add_refund(refund)
        self._ledger.append(refund_entry(refund) | trace)
        return refund

    def refundable_minor(self, charge_id: str) -> int:
        """What may still be refunded: nothing of a charge that took nothing."""
        charge = self._book.charges.get(charge_id)
        if charge is None or charge.status is not ChargeStatus.SUCCEEDED:
            return 0
        return charge.order.amount_minor - charge.amount_refunded_minor

    def cancel(self, charge: Charge, at: datetime) -> None:
        """End an open charge; a final one stays what it is."""
        if charge.status in OPEN_STATUSES:
            self._end(charge, ChargeStatus.CANCELED, None, at)

    def settle(self, charge: Charge, at: datetime) -> None:
        """An open charge gets its result, or is canceled because the payer never acted."""
        if charge.status not in OPEN_STATUSES:
            return
        match charge.settles_to:
            case None:
                self._end(charge, ChargeStatus.CANCELED, None, at)
            case "ok":
                self._end(charge, ChargeStatus.SUCCEEDED, None, at)
            case code:
                self._end(charge, ChargeStatus.DECLINED, _decline(charge.order, code), at)

    def _begin(self, charge: Charge) -> None:
        """Give a new charge its first status and, if it stays open, the end it will come to."""
        result, flow = self._result(charge.order, charge.created_at)
        match flow:
            case Flow.NOW if result == "ok":
                charge.status = ChargeStatus.SUCCEEDED
            case Flow.NOW:
                charge.status = ChargeStatus.DECLINED
                charge.decline = _decline(charge.order, result)
            case Flow.PENDING:
                charge.status = ChargeStatus.PENDING
                charge.settles_to = result
                charge.due_at = _after(charge, self._config.pending_settles_s)
            case Flow.ACTION:
                self._ask_for_action(charge, result)
            case _:
                assert_never(flow)
        charge.first_status = charge.status

    def _ask_for_action(self, charge: Charge, result: str) -> None:
        charge.status = ChargeStatus.REQUIRES_ACTION
        expires_s, completes_s = self._config.action_expires_s, self._config.action_completes_s
        charge.action_expires_at = charge.due_at = _after(charge, expires_s)
        if completes_s is not None and completes_s < expires_s:
            charge.settles_to = result
            charge.due_at = _after(charge, completes_s)

    def _end(
        self, charge: Charge, status: ChargeStatus, decline: Json | None, at: datetime
    ) -> None:
        charge.status = status
        charge.decline = decline
        self._ledger.append(status_entry(charge, at))

    def _result(self, order: ChargeOrder, at: datetime) -> tuple[str, Flow]:
        """`ok` or a decline code, and whether it is given now."""
        token = read_token(order.payment_method)
        match token:
            case Script():
                before = self._book.executed_by_token.get(order.payment_method, 0)
                return token.result(before), token.flow
            case Simulated():
                earlier = self._book.charges.of_parent(order.reference)
                return self._simulator.result(token, order.reference, at, earlier), Flow.NOW
            case None:
                raise AssertionError(f"{order.payment_method}: takes() was not asked")
            case _:
                assert_never(token)


def _decline(order: ChargeOrder, code: str) -> Json:
    token = read_token(order.payment_method)
    return decline_json(code, token.advice_code if isinstance(token, Script) else None)


def _after(charge: Charge, seconds: float) -> datetime:
    return charge.created_at + timedelta(seconds=seconds)
