"""The platform as an outsider: plain AMQP and plain HTTP. Imports nothing of renewd."""

import json
import random
import threading
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pika


def event(kind: str, event_id: str, data: dict[str, Any], at: datetime) -> bytes:
    """A CloudEvents envelope as the contract wants it."""
    return json.dumps(
        {
            "specversion": "1.0",
            "id": event_id,
            "source": "course-platform",
            "type": kind,
            "time": at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "data": data,
        }
    ).encode()


_PRICE: dict[str, Any] = {"model": "flat", "currency": "USD", "unit_amount_minor": 100}
_PLAN: dict[str, Any] = {
    "plan_id": "p_bad",
    "seller_id": "sel_1",
    "product_id": "x",
    "name": "x",
    "interval": {"unit": "month", "count": 1},
    "price": _PRICE,
}
_CUSTOMER = {"customer_id": "c_bad", "email": "a@example.com"}
_SUBSCRIPTION = {
    "subscription_id": "s_bad",
    "customer_id": "cus_1",
    "plan_id": "plan_usd",
    "payment_method_id": "pm_1",
}
_LUNAR = {"unit": "moon", "count": 1}
# type after the prefix, data, field that has to be named
BAD_EVENTS: tuple[tuple[str, dict[str, Any], str], ...] = (
    (
        "plan.upserted",
        _PLAN | {"price": _PRICE | {"unit_amount_minor": -5}},
        "data.price.unit_amount_minor",
    ),
    ("plan.upserted", _PLAN | {"price": _PRICE | {"currency": "XXQ"}}, "data.price.currency"),
    ("plan.upserted", _PLAN | {"name": 7}, "data.name"),
    ("plan.upserted", _PLAN | {"interval": _LUNAR}, "data.interval.unit"),
    ("customer.upserted", {"customer_id": "c_bad"}, "data.email"),
    ("customer.upserted", _CUSTOMER | {"timezone": "Mars/Base"}, "data.timezone"),
    ("customer.upserted", _CUSTOMER | {"name": "4111 1111 1111 1111"}, "data.name"),
    ("subscription.created", _SUBSCRIPTION | {"quantity": 0}, "data.quantity"),
    ("subscription.created", _SUBSCRIPTION | {"quantity": "3"}, "data.quantity"),
    ("subscription.created", _SUBSCRIPTION | {"customer_id": ""}, "data.customer_id"),
    ("nonsense", {}, "type"),
)
BAD_BODIES = (
    (b"not json at all", "body"),
    (b"\xff\xfe\x00", "body"),
    (b'{"a": NaN}', "a"),
    (b"[" * 40 + b"]" * 40, "body"),
    (b'{"x": "' + b"y" * 1_000_000 + b'"}', "body"),
)


def malformed(rng: random.Random, now: datetime) -> list[tuple[bytes, str]]:
    """200 messages that must be rejected, each with the field that has to be named."""
    found = []
    for n in range(200):
        if n % 4 == 3:
            found.append(rng.choice(BAD_BODIES))
            continue
        kind, data, name = rng.choice(BAD_EVENTS)
        found.append((event(f"platform.{kind}", f"bad-{n}", data, now), name))
    return found


def publish_side_by_side(amqp_url: str, bodies: Sequence[bytes], *, publishers: int) -> None:
    """As `publish` from several processes of the platform at once: their order is anybody's guess."""
    shares = [bodies[n::publishers] for n in range(publishers)]
    with ThreadPoolExecutor(publishers) as threads:
        list(threads.map(lambda share: publish(amqp_url, share), shares))


def strangers(count: int, now: datetime) -> list[bytes]:
    """Messages about subscriptions that nobody ever creates."""
    told = {"at": "now", "origin": "customer"}
    return [
        event(
            "platform.subscription.cancel_requested",
            f"stranger-{n}",
            told | {"subscription_id": f"nobody_{n}"},
            now,
        )
        for n in range(count)
    ]


def publish(amqp_url: str, bodies: Iterable[bytes]) -> int:
    """Publish with confirms; returns how many."""
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
    channel = connection.channel()
    channel.confirm_delivery()
    properties = pika.BasicProperties(content_type="application/cloudevents+json", delivery_mode=2)
    count = 0
    for body in bodies:
        try:
            kind = json.loads(body).get("type", "platform.unknown")
        except (ValueError, AttributeError):
            kind = "platform.unknown"
        channel.basic_publish("platform", str(kind), body, properties, mandatory=True)
        count += 1
    connection.close()
    return count


class Listener:
    """A consumer of exchange `billing` on a queue of its own, durable over restarts of the broker."""

    QUEUE = "outside.listener"

    def __init__(self, amqp_url: str) -> None:
        self._url = amqp_url
        self._stop = threading.Event()
        self.messages: list[dict[str, Any]] = []
        with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
            channel = connection.channel()
            channel.queue_declare(self.QUEUE, durable=True)
            channel.queue_bind(self.QUEUE, "billing", "#")
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def by_subscription(self) -> dict[str, list[dict[str, Any]]]:
        """The messages of each subscription as they came."""
        told: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for message in list(self.messages):
            if "sequence" in message["data"]:
                told[message["data"]["subscription_id"]].append(message)
        return told

    def _listen(self) -> None:
        while not self._stop.is_set():
            try:
                self._consume()
            except (pika.exceptions.AMQPError, OSError):
                self._stop.wait(0.5)

    def _consume(self) -> None:
        with pika.BlockingConnection(pika.URLParameters(self._url)) as connection:
            channel = connection.channel()
            channel.basic_qos(prefetch_count=500)
            for method, _, body in channel.consume(self.QUEUE, inactivity_timeout=0.2):
                if self._stop.is_set():
                    return
                if method is not None:
                    self.messages.append(json.loads(body))
                    channel.basic_ack(method.delivery_tag)


def ledger(base_url: str, api_key: str) -> list[dict[str, Any]]:
    """Every charge that the gateway knows, by its public list, page by page."""
    charges: list[dict[str, Any]] = []
    cursor = ""
    while True:
        query = "created_from=2000-01-01T00:00:00Z&created_to=2100-01-01T00:00:00Z"
        request = urllib.request.Request(
            f"{base_url}/v1/charges?{query}{cursor}", headers={"Authorization": f"Bearer {api_key}"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            page = json.load(answer)
        charges += page["data"]
        if not page.get("next_cursor"):
            return charges
        cursor = f"&cursor={page['next_cursor']}"


def first_appearances(messages: Sequence[dict[str, Any]]) -> list[int]:
    """The sequences in the order in which each first came."""
    seen: list[int] = []
    for message in messages:
        if message["data"]["sequence"] not in seen:
            seen.append(message["data"]["sequence"])
    return seen
