"""A book of learners drawn from a seed: what the platform says of them, and what must become of each."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tests.system.outside import event


@dataclass(frozen=True)
class Learner:
    """One subscription of the book, and what has to become of it."""

    number: int
    plan: str
    token: str
    hours: tuple[int, ...]
    status: str
    seats: int

    @property
    def subscription_id(self) -> str:
        return f"sub_{self.number}"


@dataclass(frozen=True)
class Plan:
    """A monthly plan, flat or per seat."""

    plan_id: str
    currency: str
    amount_minor: int
    per_seat: bool = False
    reminders: bool = False


PLANS = (
    Plan("plan_usd", "USD", 4900, reminders=True),
    Plan("plan_eur", "EUR", 2999),
    Plan("plan_brl", "BRL", 9790, per_seat=True),
    Plan("plan_jpy", "JPY", 1500),
    Plan("plan_eur_team", "EUR", 1250, per_seat=True),
)

LADDER = tuple(24 * day for day in (0, 1, 3, 5, 8, 11, 15, 20, 26, 28))
"""The default schedule, and the one fresh attempt at the end of its window."""

# share of 1000, token, hours after the first attempt at which attempts are made, final status
FATES: tuple[tuple[int, tuple[str, tuple[int, ...], str]], ...] = (
    (850, ("tok_ok_{n}", (0,), "active")),
    (50, ("tok_seq_insufficient_funds-ok_{n}", (0, 24), "active")),
    (30, ("tok_seq_do_not_honor-insufficient_funds-ok_{n}", (0, 24, 72), "active")),
    (20, ("tok_seq_processing_error-ok_{n}", (0, 1), "active")),
    (25, ("tok_decline_insufficient_funds_{n}", LADDER, "canceled")),
    (15, ("tok_decline_stolen_card_{n}", (0,), "canceled")),
    (10, ("tok_decline_expired_card_{n}", (0, 28 * 24), "canceled")),
)


@dataclass
class Book:
    """Every learner, drawn from a seed; due at a dozen instants after `due_from`."""

    size: int
    rng: random.Random
    now: datetime
    due_from: datetime
    learners: list[Learner] = field(default_factory=list)

    def __post_init__(self) -> None:
        fates = [fate for share, fate in FATES for _ in range(share)]
        for number in range(self.size):
            token, hours, status = self.rng.choice(fates)
            plan = PLANS[number % len(PLANS)]
            seats = self.rng.randint(1, 9) if plan.per_seat else 1
            self.learners.append(
                Learner(number, plan.plan_id, token.format(n=number), hours, status, seats)
            )

    def amount_minor(self, learner: Learner) -> int:
        plan = PLANS[learner.number % len(PLANS)]
        return plan.amount_minor * (learner.seats if plan.per_seat else 1)

    def currency(self, learner: Learner) -> str:
        return PLANS[learner.number % len(PLANS)].currency

    def messages(self) -> Iterator[bytes]:
        """Everything the platform says, 10 % of it twice, some of it in the wrong order."""
        entries = [*self._catalogue(), *self._people()]
        doubled = self.rng.sample(entries, len(entries) // 10)
        stream = [*entries, *doubled]
        for _ in range(len(stream) // 20):
            a = self.rng.randrange(len(stream))
            b = min(len(stream) - 1, a + self.rng.randint(1, 50))
            stream[a], stream[b] = stream[b], stream[a]
        yield from stream

    def _catalogue(self) -> Iterator[bytes]:
        yield event(
            "platform.seller.upserted",
            "e-seller",
            {"seller_id": "sel_1", "name": "Chess"},
            self.now,
        )
        for plan in PLANS:
            model = "per_unit" if plan.per_seat else "flat"
            yield event(
                "platform.plan.upserted",
                f"e-{plan.plan_id}",
                {
                    "plan_id": plan.plan_id,
                    "seller_id": "sel_1",
                    "product_id": f"prod_{plan.plan_id}",
                    "name": plan.plan_id,
                    "interval": {"unit": "month", "count": 1},
                    "price": {
                        "model": model,
                        "currency": plan.currency,
                        "unit_amount_minor": plan.amount_minor,
                    },
                    "reminders": [{"days_before": 3}] if plan.reminders else [],
                },
                self.now,
            )

    def _people(self) -> Iterator[bytes]:
        for learner in self.learners:
            for kind, key, data in self._about(learner):
                yield event(kind, f"e-{key}-{learner.number}", data, self.now)

    def _about(self, learner: Learner) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """The three messages of one learner: type, part of the event id, data."""
        customer, method = f"cus_{learner.number}", f"pm_{learner.number}"
        due_at = self.due_from + timedelta(minutes=5 * (learner.number % 12))
        email = f"learner{learner.number}@example.com"
        yield "platform.customer.upserted", "cus", {"customer_id": customer, "email": email}
        attached = {
            "payment_method_id": method,
            "customer_id": customer,
            "gateway": "main",
            "token": learner.token,
            "kind": "card",
        }
        yield "platform.payment_method.attached", "pm", attached
        created = {
            "subscription_id": learner.subscription_id,
            "customer_id": customer,
            "plan_id": learner.plan,
            "payment_method_id": method,
            "quantity": learner.seats,
            "paid_through": due_at.isoformat().replace("+00:00", "Z"),
        }
        yield "platform.subscription.created", "sub", created
