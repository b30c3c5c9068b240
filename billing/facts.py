"""What the rules are told: rows of the database as values, read under the subscription's lock.

Rules change these values and collect what follows (messages, moves, notices) in a `Case`; the worker
writes the result in one transaction. Nothing here is looked up or written. The fields stand in the
order of the statements that read them (`worker/store/facts.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from billing.calendar import Anchor, Interval, IntervalUnit
from billing.dunning import DunningPolicy, PastAttempt
from billing.lifecycle import (
    ATTEMPT_TRANSITIONS,
    INVOICE_TRANSITIONS,
    SUBSCRIPTION_TRANSITIONS,
    AttemptState,
    InvoiceStatus,
    Move,
    SubscriptionStatus,
    assert_legal,
)
from billing.messages import Message, MessageType, Party
from billing.notices import NoticeDraft


@dataclass(slots=True)
class Subscription:
    """A subscription with what its plan, price, method, seller and customer say."""

    subscription_id: str
    seller_id: str
    customer_id: str
    plan_id: str
    payment_method_id: str
    gateway: str
    quantity: int
    status: SubscriptionStatus
    zone: str
    anchor_local: datetime
    anchor_day: int
    odd_start_at: datetime | None
    next_period: int
    current_period_start: datetime | None
    current_period_end: datetime | None
    next_renewal_at: datetime | None
    access_ends_at: datetime | None
    cancel_at: datetime | None
    cancel_origin: str | None
    cancel_reason: str | None
    ended_at: datetime | None
    sequence: int
    claims: int
    plan_name: str
    interval_unit: str
    interval_count: int
    cycles: int | None
    retry_policy: Mapping[str, Any]
    reminders: Sequence[Mapping[str, Any]]
    catch_up_periods: int
    while_past_due: str
    ceiling_minor: int | None
    proration: str
    price_model: str
    currency: str
    unit_amount_minor: int
    tax_minor: int | None
    token: str
    method_gateway: str
    method_removed_at: datetime | None
    method_hard_declined_at: datetime | None
    method_changed_at: datetime | None
    statement_descriptor: str | None
    segments: Sequence[str]

    @property
    def party(self) -> Party:
        """Whom its messages are about."""
        return Party(self.subscription_id, self.customer_id, self.seller_id)

    @property
    def anchor(self) -> Anchor:
        """Where its periods start from; with `interval` and n all there is to know of period n."""
        return Anchor(self.anchor_local, self.anchor_day, self.zone, self.odd_start_at)

    @property
    def interval(self) -> Interval:
        """How long a period is."""
        return Interval(IntervalUnit(self.interval_unit), self.interval_count)


@dataclass(slots=True)
class Invoice:
    """An invoice; `retry_policy` is the plan's at its first decline."""

    invoice_id: UUID
    subscription_id: str
    period_index: int
    period_start: datetime
    period_end: datetime
    amount_minor: int
    currency: str
    tax_minor: int | None
    status: InvoiceStatus
    gateway: str
    due_at: datetime
    created_at: datetime
    retry_policy: Mapping[str, Any] | None
    first_declined_at: datetime | None
    dunning_ends_at: datetime | None
    attempt_due_at: datetime | None
    attempt_source: str | None
    requested_source: str | None
    hold_reason: str | None
    paid_at: datetime | None
    closed_at: datetime | None
    recovered_by: str | None
    claims: int

    def policy(self, subscription: Subscription) -> DunningPolicy:
        """The dunning policy: frozen at the first decline, the plan's until then."""
        return DunningPolicy.from_contract(
            subscription.retry_policy if self.retry_policy is None else self.retry_policy
        )


@dataclass(slots=True)
class Attempt:
    """One request to a gateway, as stored; times are business time."""

    invoice_id: UUID
    ordinal: int
    subscription_id: str
    source: str
    state: AttemptState
    gateway: str
    payment_method_id: str
    amount_minor: int
    currency: str
    idempotency_key: str
    request: bytes
    claimed_at: datetime
    sent_at: datetime
    check_due_at: datetime | None
    checks: int
    answered: bool
    replayed: bool
    not_found_at: datetime | None
    gateway_ref: str | None
    decline_code: str | None
    decline_class: str | None
    network_code: str | None
    advice_code: str | None
    action: Mapping[str, Any] | None
    raw_outcome: str | None
    needs_human: str | None
    resolved_at: datetime | None

    @property
    def subject(self) -> str:
        """Its name in the history and on doorbells."""
        return f"{self.invoice_id}:{self.ordinal}"


@dataclass(slots=True)
class Case:
    """One subscription with the invoice and attempt at hand, and what follows from a rule.

    `wait_seconds` is machine time until anybody may touch an unsettled attempt again. `is_plain`: a
    first attempt of an active subscription that was paid, nothing else; so are nearly all, and
    they are written with fewer columns.
    """

    subscription: Subscription
    bill: Invoice | None
    attempt: Attempt | None
    now: datetime
    history: Sequence[PastAttempt] = ()
    by_reconciler: bool = False
    messages: list[Message] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    notices: list[NoticeDraft] = field(default_factory=list)
    drop_notices: str | None = None
    hard_decline_code: str | None = None
    wait_seconds: int = 0
    is_plain: bool = False

    @property
    def invoice(self) -> Invoice:
        """The invoice at hand; only the end of a subscription knows none."""
        assert self.bill is not None, "a case without an invoice"
        return self.bill

    def tell(self, kind: MessageType, **fields: object) -> None:
        """Add a message about the subscription."""
        self.messages.append(Message(kind, self.subscription.party, fields))

    def tell_money(self, kind: MessageType, **fields: object) -> None:
        """Add a message that names the invoice and its amount."""
        invoice = self.invoice
        self.tell(
            kind,
            invoice_id=invoice.invoice_id,
            amount_minor=invoice.amount_minor,
            currency=invoice.currency,
            **fields,
        )

    def move_subscription(self, after: SubscriptionStatus, reason: str) -> None:
        """Move the subscription by its table; staying where it is writes nothing."""
        row = self.subscription
        if row.status is not after:
            assert_legal(SUBSCRIPTION_TRANSITIONS, row.status, after)
            self._moved("subscription", row.subscription_id, row.status, after, reason)
            row.status = after

    def move_invoice(self, after: InvoiceStatus, reason: str) -> None:
        """Move the invoice by its table and stamp when it was paid or closed."""
        row = self.invoice
        assert_legal(INVOICE_TRANSITIONS, row.status, after)
        self._moved("invoice", str(row.invoice_id), row.status, after, reason)
        row.status = after
        row.attempt_due_at = row.attempt_source = row.requested_source = row.hold_reason = None
        row.paid_at = self.now if after is InvoiceStatus.PAID else None
        row.closed_at = None if after is InvoiceStatus.OPEN else self.now

    def move_attempt(self, attempt: Attempt, after: AttemptState, reason: str) -> None:
        """Move the attempt by its table; a resolved one is never checked again."""
        if attempt.state is after:
            return
        assert_legal(ATTEMPT_TRANSITIONS, attempt.state, after)
        self._moved("attempt", attempt.subject, attempt.state, after, reason)
        attempt.state = after
        if after in (AttemptState.SUCCEEDED, AttemptState.DECLINED, AttemptState.VOID):
            attempt.resolved_at, attempt.check_due_at = self.now, None

    def _moved(self, machine: str, subject: str, before: str, after: str, reason: str) -> None:
        subscription_id = self.subscription.subscription_id
        self.moves.append(Move(subscription_id, machine, subject, before, after, reason))
