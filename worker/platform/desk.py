"""What a batch of messages knows and what it changes: read once, written once.

Handlers (`apply/`) work on a desk alone, so that a message later in the batch sees what an earlier one
did. `loading` fills it under the locks, `saving` writes it; if the transaction fails, the desk goes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar
from uuid import UUID

from billing.events import PlatformEvent
from billing.facts import Case, Invoice, Subscription
from worker.store.hints import Trace
from worker.store.inbox import Topic, Version
from worker.store.methods import Method
from worker.store.parties import Customer, Seller
from worker.store.plans import Plan
from worker.store.signups import Signup

T = TypeVar("T")


@dataclass(slots=True)
class Shelf(Generic[T]):
    """Things of one kind by id: those that are known, and those among them to be written."""

    known: dict[str, T] = field(default_factory=dict)
    changed: dict[str, T] = field(default_factory=dict)

    def get(self, id_: str) -> T | None:
        """The thing as this batch sees it."""
        return self.known.get(id_)

    def put(self, id_: str, thing: T) -> bool:
        """Change or add it; whether it was unknown."""
        is_new = id_ not in self.known
        self.known[id_] = self.changed[id_] = thing
        return is_new


@dataclass(slots=True)
class Desk:
    """One batch's view of the database; business time `now`.

    `open_invoices` by subscription, `under_way` the unsettled attempts by invoice. `found_keys`: what a
    gateway said about references of its own that no attempt has, as (gateway, reference) → key.
    """

    now: datetime
    sellers: Shelf[Seller] = field(default_factory=Shelf)
    plans: Shelf[Plan] = field(default_factory=Shelf)
    customers: Shelf[Customer] = field(default_factory=Shelf)
    methods: Shelf[Method] = field(default_factory=Shelf)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    of_customer: dict[str, list[Subscription]] = field(default_factory=dict)
    open_invoices: dict[str, list[Invoice]] = field(default_factory=dict)
    owners: dict[UUID, Invoice] = field(default_factory=dict)
    under_way: dict[UUID, Trace] = field(default_factory=dict)
    traces: dict[tuple[str, str], Trace] = field(default_factory=dict)
    found_keys: Mapping[tuple[str, str], str] = field(default_factory=dict)
    versions: dict[Topic, Version] = field(default_factory=dict)

    new_prices: list[Plan] = field(default_factory=list)
    signups: dict[str, Signup] = field(default_factory=dict)
    pointed: dict[str, Subscription] = field(default_factory=dict)
    cases: list[Case] = field(default_factory=list)
    resends: list[tuple[str, int]] = field(default_factory=list)
    hints: dict[tuple[UUID, int], None] = field(default_factory=dict)
    new_versions: dict[Topic, Version] = field(default_factory=dict)

    def is_superseded(self, topic: Topic, event: PlatformEvent, *, rank: int = 0) -> bool:
        """Whether something newer of this group was applied."""
        known = self.versions.get(topic)
        return known is not None and _version(event, rank) < known

    def note(self, topic: Topic, event: PlatformEvent, *, rank: int = 0) -> None:
        """`event` is the newest of this group from now on."""
        self.versions[topic] = self.new_versions[topic] = _version(event, rank)

    def invoices_of(self, subscription_id: str) -> list[Invoice]:
        """Its open invoices, oldest first."""
        return self.open_invoices.get(subscription_id, [])

    def add(self, subscription: Subscription) -> None:
        """Put a subscription on the desk."""
        self.subscriptions[subscription.subscription_id] = subscription
        self.of_customer.setdefault(subscription.customer_id, []).append(subscription)

    def subscriptions_on(self, method: Method) -> list[Subscription]:
        """The subscriptions on this desk that are charged with a method."""
        return [
            subscription
            for subscription in self.of_customer.get(method.customer_id, [])
            if subscription.payment_method_id == method.payment_method_id
        ]

    def touch(self, subscription: Subscription) -> Case:
        """A case to tell and to note changes of this subscription, written at the end."""
        case = Case(subscription, None, None, self.now)
        self.cases.append(case)
        return case

    def look_again(self, trace: Trace) -> None:
        """Have reconciliation look at an attempt as soon as it may."""
        self.hints[trace.invoice_id, trace.ordinal] = None


def _version(event: PlatformEvent, rank: int) -> Version:
    return Version(event.occurred_at, rank, event.event_id)
