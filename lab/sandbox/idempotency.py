"""The key store: what a key answered first is what it answers, as long as it is kept.

The key is stored when its request is executed, before the answer leaves, so that a resend after any
fault meets what happened. A 5xx is stored too, whether or not money moved.
"""

from datetime import datetime, timedelta
from typing import NamedTuple

from pydantic_core import to_json

from lab.sandbox.answers import Answer, Refused, invalid, not_found, server_error_body, spoil
from lab.sandbox.book import Book
from lab.sandbox.config import SandboxFaults
from lab.sandbox.entries import answer_entry, late_done_entry, late_entry
from lab.sandbox.execution import Till
from lab.sandbox.faults import Damage, Effect, FaultDraws
from lab.sandbox.ledger import Ledger
from lab.sandbox.records import Charge, Json, KeyRecord, LateRequest, Order, Refund, RefundOrder


class Post(NamedTuple):
    """A checked POST that arrived. `at` is gateway time, `monotonic` machine seconds."""

    order: Order
    key: str
    body_hash: str
    at: datetime
    monotonic: float
    nth: int
    delay_s: float
    settings: SandboxFaults


class KeyDesk:
    """Answers what arrives: by the stored answer of its key, else by executing it."""

    def __init__(self, book: Book, till: Till, ledger: Ledger) -> None:
        self._book = book
        self._till = till
        self._ledger = ledger

    def answer(self, post: Post, effect: Effect, draws: FaultDraws) -> Answer:
        """The answer as it leaves the gateway. Raises Refused: 400, 404, 409."""
        record = self._live_record(post.key, post.at, post.settings.key_lifetime_hours)
        answer = self._replay(record, post) if record else self._answer_first(post, effect)
        return spoil(answer, effect, draws)

    def arrive_late(self, late: LateRequest, at: datetime, key_lifetime_hours: float) -> None:
        """A held-up request arrives: a used key stops it, unless it was accepted with a 500."""
        used = self._live_record(late.idempotency_key, at, key_lifetime_hours)
        trace = {"body_hash": late.body_hash, "nth": 0, "late": late.id}
        made: Charge | Refund | None = None
        if late.answered:
            made = self._execute(late.order, late.idempotency_key, at, trace | {"stored": None})
        elif used is None:
            made = self._execute(late.order, late.idempotency_key, at, trace | {"stored": 200})
            if made is not None:
                self._book.keys[late.idempotency_key] = KeyRecord(late.body_hash, at, 200, made)
        if made is None:
            self._ledger.append(late_done_entry(late, at))

    def _live_record(self, key: str, at: datetime, key_lifetime_hours: float) -> KeyRecord | None:
        record = self._book.keys.get(key)
        if record is None or at - record.first_used_at >= timedelta(hours=key_lifetime_hours):
            return None
        return record

    def _replay(self, record: KeyRecord, post: Post) -> Answer:
        if record.body_hash != post.body_hash:
            raise Refused(400, "idempotency_error", "this key was used with another request")
        if post.monotonic < record.busy_until:
            raise Refused(409, "idempotency_key_in_use", "a request with this key is in flight")
        body = _body(record.status, record.made)
        return Answer(record.status, body, post.delay_s, replayed=True)

    def _answer_first(self, post: Post, effect: Effect) -> Answer:
        if isinstance(post.order, RefundOrder):
            self._check_refund(post.order)
        if effect.late:
            self._hold_up(post, effect)
        if not effect.executes:
            return self._answer_error(post, effect)
        made = self._execute_times(post, effect)
        return Answer(
            effect.status,
            _body(effect.status, made, wrong_amount=effect.damage is Damage.WRONG_AMOUNT),
            post.delay_s,
        )

    def _answer_error(self, post: Post, effect: Effect) -> Answer:
        """A stored 5xx, or the silence after a request that is held up."""
        if effect.status == 200:
            return Answer(200, b"", post.delay_s)
        if post.settings.stores_5xx:
            self._store_error(post, effect.status)
        return Answer(effect.status, server_error_body(effect.status), post.delay_s)

    def _execute_times(self, post: Post, effect: Effect) -> Charge | Refund:
        """Execute and store; a broken gateway executes again under the same key."""
        stored = effect.status if post.settings.stores_5xx else 200
        trace: Json = {"body_hash": post.body_hash, "nth": post.nth, "late": None}
        made = self._execute(post.order, post.key, post.at, trace | {"stored": stored})
        assert made is not None, "a refund was checked before"
        for _ in range(1, effect.times):
            self._execute(post.order, post.key, post.at, trace | {"stored": None})
        busy_until = post.monotonic + post.delay_s
        self._book.keys[post.key] = KeyRecord(post.body_hash, post.at, stored, made, busy_until)
        return made

    def _execute(self, order: Order, key: str, at: datetime, trace: Json) -> Charge | Refund | None:
        if isinstance(order, RefundOrder):
            return self._till.refund(order, key=key, at=at, trace=trace)
        return self._till.charge(order, key=key, at=at, trace=trace)

    def _check_refund(self, order: RefundOrder) -> None:
        if self._book.charges.get(order.charge) is None:
            raise not_found("charge")
        left_minor = self._till.refundable_minor(order.charge)
        if order.amount_minor > left_minor:
            raise invalid("amount_minor", f"{order.amount_minor} is over the {left_minor} left")

    def _hold_up(self, post: Post, effect: Effect) -> None:
        """The request will be executed when gateway time reaches `late_minutes` from now."""
        late = LateRequest(
            id=f"{post.key}:{post.nth}",
            order=post.order,
            idempotency_key=post.key,
            body_hash=post.body_hash,
            answered=effect.status != 200 and post.settings.stores_5xx,
        )
        due_at = post.at + timedelta(minutes=post.settings.late_minutes)
        self._book.plan(due_at, late)
        self._ledger.append(late_entry(late, at=post.at, due_at=due_at))

    def _store_error(self, post: Post, status: int) -> None:
        busy_until = post.monotonic + post.delay_s
        self._book.keys[post.key] = KeyRecord(post.body_hash, post.at, status, None, busy_until)
        self._ledger.append(
            answer_entry(key=post.key, body_hash=post.body_hash, status=status, at=post.at)
        )


def _body(status: int, made: Charge | Refund | None, *, wrong_amount: bool = False) -> bytes:
    """What a key answers with: the first answer of what was made, or the error's body."""
    if status != 200:
        return server_error_body(status)
    assert made is not None
    shape = made.first_answer()
    if wrong_amount:
        shape["amount_minor"] += 1
    return to_json(shape)
