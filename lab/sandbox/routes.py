"""The calls of the contract: from a request to what the gateway answers.

Beside the contract: `GET` and `PUT /v1/sandbox/faults`, `GET /v1/sandbox/ledger` (JSON Lines, all of
it) and `GET /v1/sandbox/stats`.
"""

import hmac
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import parse_qsl, unquote

from pydantic import ValidationError
from pydantic_core import to_json

from lab.sandbox.answers import Answer, Refused, not_found
from lab.sandbox.config import ClockOrder, FaultPlan, SandboxConfig
from lab.sandbox.gateway import Gateway
from lab.sandbox.ledger import Ledger
from lab.sandbox.lookups import list_charges, list_refunds
from lab.sandbox.orders import read_charge_order, read_key, read_refund_order, refused
from lab.sandbox.records import Json, rfc3339


@dataclass(slots=True)
class Request:
    """One HTTP request, headers reduced to what the contract reads."""

    method: str
    path: str
    query: str
    authorization: bytes
    idempotency_key: str | None
    body: bytes


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer of known size that is sent as fast as the client reads it."""

    size: int
    chunks: Iterator[bytes]


Reply = Answer | Stream
Handler = Callable[[Request, str], Reply]
"""Takes the request and the id of its path, if the path has one."""


class Router:
    """Checks the bearer key and calls the one handler of method and path."""

    def __init__(self, config: SandboxConfig, gateway: Gateway, ledger: Ledger) -> None:
        self._gateway = gateway
        self._ledger = ledger
        self._page_size = config.page_size
        self._bearer = f"Bearer {config.api_key}".encode()
        self._refund_bearer = f"Bearer {config.refund_api_key or config.api_key}".encode()
        self._answered: Counter[int] = Counter()
        self._replayed = 0
        self._routes: dict[tuple[str, str], Handler] = {
            ("POST", "/v1/charges"): self._post_charge,
            ("GET", "/v1/charges"): self._list_charges,
            ("GET", "/v1/charges/{id}"): self._get_charge,
            ("POST", "/v1/charges/{id}/cancel"): self._cancel,
            ("POST", "/v1/refunds"): self._post_refund,
            ("GET", "/v1/refunds"): self._list_refunds,
            ("GET", "/v1/refunds/{id}"): self._get_refund,
            ("GET", "/v1/health"): self._health,
            ("POST", "/v1/clock"): self._set_clock,
            ("GET", "/v1/sandbox/faults"): self._get_faults,
            ("PUT", "/v1/sandbox/faults"): self._put_faults,
            ("GET", "/v1/sandbox/ledger"): self._get_ledger,
            ("GET", "/v1/sandbox/stats"): self._get_stats,
        }
        self._paths = {path for _, path in self._routes}

    def handle(self, request: Request) -> Reply:
        """Never raises what the contract knows: errors become their answers."""
        try:
            handler, row_id = self._route(request)
            reply = handler(request, row_id)
        except Refused as refused:
            reply = refused.answer
        if isinstance(reply, Answer):
            self._answered[reply.status] += 1
            self._replayed += reply.replayed
        return reply

    def _route(self, request: Request) -> tuple[Handler, str]:
        path, row_id = request.path, ""
        if path not in self._paths:
            parts = path.split("/")
            row_id = unquote(parts[3]) if len(parts) > 3 else ""
            path = "/".join([*parts[:3], "{id}", *parts[4:]])
        self._check_bearer(request)
        handler = self._routes.get((request.method, path))
        if handler is None and path in self._paths:
            raise Refused(405, "invalid_request", f"{request.method} is not for {request.path}")
        if handler is None:
            raise not_found("path")
        return handler, row_id

    def _check_bearer(self, request: Request) -> None:
        """Refunds alone take the refund key, and no other once there is one."""
        refunding = request.method == "POST" and request.path == "/v1/refunds"
        expected = self._refund_bearer if refunding else self._bearer
        if not hmac.compare_digest(request.authorization, expected):
            raise Refused(401, "unauthorized", "a valid bearer key is required")

    def _post_charge(self, request: Request, _: str) -> Answer:
        key = read_key(request.idempotency_key)
        order = read_charge_order(request.body, self._gateway.till.takes)
        return self._gateway.post(
            order, key=key, body_hash=_hash(request), monotonic=time.monotonic()
        )

    def _post_refund(self, request: Request, _: str) -> Answer:
        key = read_key(request.idempotency_key)
        order = read_refund_order(request.body)
        return self._gateway.post(
            order, key=key, body_hash=_hash(request), monotonic=time.monotonic()
        )

    def _get_charge(self, request: Request, row_id: str) -> Answer:
        def look_up(_: object) -> Json:
            charge = self._gateway.book.charges.get(row_id)
            if charge is None:
                raise not_found("charge")
            return charge.answer()

        return self._gateway.read(request.path, look_up)

    def _get_refund(self, request: Request, row_id: str) -> Answer:
        def look_up(_: object) -> Json:
            refund = self._gateway.book.refunds.get(row_id)
            if refund is None:
                raise not_found("refund")
            return refund.answer()

        return self._gateway.read(request.path, look_up)

    def _list_charges(self, request: Request, _: str) -> Answer:
        query = _query(request)
        return self._gateway.read(
            f"charges?{request.query}",
            lambda now: list_charges(
                self._gateway.book, query, now, page_size=self._page_size, lag_s=self._lag_s
            ),
        )

    def _list_refunds(self, request: Request, _: str) -> Answer:
        query = _query(request)
        return self._gateway.read(
            f"refunds?{request.query}",
            lambda now: list_refunds(
                self._gateway.book, query, now, page_size=self._page_size, lag_s=self._lag_s
            ),
        )

    def _lag_s(self, payment_method: str) -> float:
        return self._gateway.faults.of(payment_method).settings.lookup_lag_s

    def _cancel(self, _: Request, row_id: str) -> Answer:
        return self._gateway.cancel(row_id)

    def _health(self, _: Request, __: str) -> Answer:
        return _ok({"status": "ok", "now": rfc3339(self._gateway.now())})

    def _set_clock(self, request: Request, _: str) -> Answer:
        try:
            now = ClockOrder.model_validate_json(request.body).now
        except ValidationError as error:
            raise refused(error) from None
        self._gateway.set_clock(now)
        return _ok({"now": rfc3339(self._gateway.now())})

    def _get_faults(self, _: Request, __: str) -> Answer:
        return Answer(200, self._gateway.faults.plan.model_dump_json().encode())

    def _put_faults(self, request: Request, _: str) -> Answer:
        try:
            plan = FaultPlan.model_validate_json(request.body)
        except ValidationError as error:
            raise refused(error) from None
        self._gateway.set_faults(plan)
        return Answer(200, plan.model_dump_json().encode())

    def _get_ledger(self, _: Request, __: str) -> Stream:
        return Stream(*self._ledger.snapshot())

    def _get_stats(self, _: Request, __: str) -> Answer:
        answers = {"answers_by_status": dict(self._answered), "answers_replayed": self._replayed}
        return _ok(answers | self._gateway.stats())


def _query(request: Request) -> dict[str, str]:
    return dict(parse_qsl(request.query, keep_blank_values=True))


def _hash(request: Request) -> str:
    """Binds a key to path and body: to the byte, as sent."""
    return sha256(request.path.encode() + b"\0" + request.body).hexdigest()


def _ok(shape: Json) -> Answer:
    return Answer(200, to_json(shape))
