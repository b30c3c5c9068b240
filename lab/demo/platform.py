"""The demo's course platform: the messages it sends, and what its customers do about the ones it gets.

Everything is drawn from the seed and the number of a customer, so a run can be had again. Times of day
are those of UTC, because a payer's local time is UTC in the issuer model. Customers react to the mail
about a failed payment as the model says (lab/issuer.py): they attach a card that works, or leave.
"""

import heapq
import json
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from billing.messages import MessageType, rfc3339
from billing.notices import NoticeKind
from lab.demo.catalog import GATEWAY, HOMES, OFFERS, POPULATION, SELLERS, Json, Offer
from lab.issuer import ReactionKind, World
from lab.people import model_hours
from lab.population import load_shipped

SOURCE = "demo-platform"
JOINS_LATER_SHARE = 0.08
JOINING_DAYS = 60
"""Who was not there from the start joins in the first two months, or in the first half of less."""

LEAVES_A_YEAR = 0.10
LEAVES_AT_ONCE_SHARE = 0.2
STAYS_AFTER_ALL_SHARE = 0.2
DAY = timedelta(days=1)


class _Planned(NamedTuple):
    """A message to be sent at `at`; `invoice_id` if it is pointless once that one is settled."""

    at: datetime
    number: int
    type: str
    body: Json
    invoice_id: str | None = None


class _Failure(NamedTuple):
    """The last first decline of a subscription."""

    invoice_id: str
    failed_at: datetime


class Platform:
    """Sends and hears CloudEvents; knows nothing of renewd but the contract."""

    def __init__(
        self, *, subscriptions: int, starts_at: datetime, ends_at: datetime, seed: int
    ) -> None:
        self._starts_at = starts_at
        self._ends_at = ends_at
        self._seed = seed
        self._world = World(load_shipped(POPULATION), seed=seed)
        self._planned: list[_Planned] = []
        self._sent = 0
        self._pointless: set[str] = set()
        self._failures: dict[str, _Failure] = {}
        for seller in SELLERS:
            self._plan(starts_at, "platform.seller.upserted", seller)
        for offer in OFFERS:
            self._plan(starts_at, "platform.plan.upserted", offer.plan)
        for number in range(1, subscriptions + 1):
            self._plan_customer(number)

    def next_at(self) -> datetime | None:
        """When it wants to send the next message."""
        return self._planned[0].at if self._planned else None

    def take(self, now: datetime) -> Iterator[bytes]:
        """The messages of up to `now`, oldest first."""
        while self._planned and self._planned[0].at <= now:
            planned = heapq.heappop(self._planned)
            if planned.invoice_id is None or planned.invoice_id not in self._pointless:
                yield self._envelope(planned)

    def hear(self, message: Json) -> None:
        """One message of renewd, in order."""
        told = message["data"]
        match message["type"]:
            case MessageType.PAYMENT_FAILED if told["attempt"] == 1:
                failed_at = datetime.fromisoformat(message["time"])
                self._failures[told["subscription_id"]] = _Failure(told["invoice_id"], failed_at)
            case MessageType.NOTICE_SENT if told["kind"] == NoticeKind.PAYMENT_FAILED:
                self._react(told, datetime.fromisoformat(message["time"]))
            case MessageType.INVOICE_PAID | MessageType.INVOICE_UNCOLLECTIBLE:
                self._pointless.add(told["invoice_id"])
            case _:
                pass

    def _plan_customer(self, number: int) -> None:
        rng = random.Random(f"{self._seed} customer {number}")
        offer = rng.choices(OFFERS, [offer.share for offer in OFFERS])[0]
        joins_later = rng.random() < JOINS_LATER_SHARE
        joined_at = self._starts_at
        if joins_later:
            half = (self._ends_at - self._starts_at) // DAY // 2
            joined_at += _at_daytime(rng, rng.randrange(min(JOINING_DAYS, half)))
        zone, locale = rng.choice(HOMES)
        customer_id, method_id = f"cus_{number:06}", f"pm_{number:06}"
        self._plan(
            joined_at,
            "platform.customer.upserted",
            {
                "customer_id": customer_id,
                "email": f"customer{number}@example.org",
                "name": f"Customer {number}",
                "timezone": zone,
                "locale": locale,
            },
        )
        self._attach(joined_at, customer_id, method_id, f"tok_sim_{POPULATION}_{number}")
        subscription: Json = {
            "subscription_id": f"sub_{number:06}",
            "customer_id": customer_id,
            "plan_id": offer.plan["plan_id"],
            "payment_method_id": method_id,
            "quantity": rng.randint(*offer.seats),
        }
        if not joins_later:
            subscription["paid_through"] = rfc3339(self._paid_through(rng, offer))
        self._plan(joined_at, "platform.subscription.created", subscription)
        self._plan_leaving(rng, subscription["subscription_id"], joined_at)

    def _paid_through(self, rng: random.Random, offer: Offer) -> datetime:
        """Spread over the days of one period, so that every day has its renewals."""
        days = 365 if offer.plan["interval"]["unit"] == "year" else 30
        return self._starts_at + _at_daytime(rng, rng.randrange(days))

    def _plan_leaving(self, rng: random.Random, subscription_id: str, joined_at: datetime) -> None:
        days = (self._ends_at - joined_at) // DAY
        if rng.random() > LEAVES_A_YEAR * days / 365:
            return
        leaves_at = joined_at + _at_daytime(rng, 1 + rng.randrange(max(days, 1)))
        at_once = rng.random() < LEAVES_AT_ONCE_SHARE
        self._cancel(leaves_at, subscription_id, at="now" if at_once else "period_end")
        if not at_once and rng.random() < STAYS_AFTER_ALL_SHARE:
            self._plan(
                leaves_at + timedelta(hours=rng.randint(1, 72)),
                "platform.subscription.cancel_undone",
                {"subscription_id": subscription_id},
            )

    def _react(self, told: Json, mailed_at: datetime) -> None:
        subscription_id, customer_id = told["subscription_id"], told["customer_id"]
        invoice_id, failed_at = self._failures[subscription_id]
        person = self._world.person(customer_id.removeprefix("cus_").lstrip("0"))
        case = self._world.case(person, invoice_id, first_at=model_hours(failed_at))
        reaction = self._world.mail_reaction(case, 0)
        if reaction is None:
            return
        at = mailed_at + timedelta(hours=reaction.delay_hours)
        if reaction.kind is ReactionKind.CANCEL:
            self._cancel(at, subscription_id, at="now", invoice_id=invoice_id)
        elif reaction.succeeds:
            method_id = f"pm_{invoice_id}"
            token = f"tok_ok_{customer_id}"
            self._attach(at, customer_id, method_id, token, invoice_id=invoice_id)
            changed = {"subscription_id": subscription_id, "payment_method_id": method_id}
            kind = "platform.subscription.payment_method_changed"
            self._plan(at, kind, changed, invoice_id=invoice_id)

    def _attach(
        self,
        moment: datetime,
        customer_id: str,
        method_id: str,
        token: str,
        *,
        invoice_id: str | None = None,
    ) -> None:
        method = {
            "payment_method_id": method_id,
            "customer_id": customer_id,
            "gateway": GATEWAY,
            "token": token,
            "kind": "card",
            "brand": "visa",
        }
        self._plan(moment, "platform.payment_method.attached", method, invoice_id=invoice_id)

    def _cancel(
        self, moment: datetime, subscription_id: str, *, at: str, invoice_id: str | None = None
    ) -> None:
        request = {"subscription_id": subscription_id, "at": at, "origin": "customer"}
        kind = "platform.subscription.cancel_requested"
        self._plan(moment, kind, request, invoice_id=invoice_id)

    def _plan(self, at: datetime, kind: str, body: Json, *, invoice_id: str | None = None) -> None:
        self._sent += 1
        heapq.heappush(self._planned, _Planned(at, self._sent, kind, body, invoice_id))

    def _envelope(self, planned: _Planned) -> bytes:
        envelope: dict[str, Any] = {
            "specversion": "1.0",
            "id": f"evt_{planned.number:08}",
            "source": SOURCE,
            "type": planned.type,
            "time": rfc3339(planned.at),
            "datacontenttype": "application/json",
            "data": planned.body,
        }
        return json.dumps(envelope, separators=(",", ":")).encode()


def _at_daytime(rng: random.Random, days: int) -> timedelta:
    """So many days and a time of day, of which four in five are between 8:00 and 20:00."""
    hour = rng.randrange(8, 20) if rng.random() < 0.8 else rng.randrange(8)
    return timedelta(days=days, hours=hour, minutes=rng.randrange(60))
