"""The adapter `sandbox`: speaks docs/contract/sandbox-gateway.md to any server that speaks it.

A refused connection never sent a byte; silence and a broken answer are unknown. What an answer means
stands in sandbox_answers.py.
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

import aiohttp
from yarl import URL

from billing.messages import rfc3339
from billing.outcomes import (
    ChargeOutcome,
    LookupOutcome,
    NotFound,
    NotSent,
    Unknown,
)
from worker.errors import ServerUnreachable
from worker.gateways.gateway import Capabilities, ChargeRequest, LedgerCharge
from worker.gateways.sandbox_answers import (
    AnswerError,
    charge_outcome,
    found,
    ledger_charge,
    parse_object,
)
from worker.settings import GatewaySettings

MAX_BODY_BYTES = 1_000_000
"""Larger answers are refused: nothing a gateway has to say is that long."""

CONNECTIONS = 1000
"""Most open connections to one gateway; more than a worker's batches in flight together."""


class SandboxGateway:
    """One sandbox gateway; satisfies `Gateway`."""

    def __init__(self, name: str, settings: GatewaySettings) -> None:
        self.name = name
        self.capabilities = Capabilities(
            key_lifetime=timedelta(hours=settings.key_lifetime_hours),
            lookup_lag=timedelta(seconds=settings.lookup_lag_seconds),
            max_delivery_delay=timedelta(minutes=settings.max_delivery_delay_minutes),
        )
        self._base = settings.base_url.rstrip("/")
        self._charges = f"{self._base}/v1/charges"
        self._charge_url = URL(self._charges)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS, limit_per_host=0),
            timeout=aiohttp.ClientTimeout(total=settings.try_seconds, sock_connect=4),
            headers={
                "Authorization": f"Bearer {settings.api_key.get_secret_value()}",
                "Content-Type": "application/json",
            },
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
            auto_decompress=False,
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    def request_bytes(self, request: ChargeRequest) -> bytes:
        """The body of `POST /v1/charges`, with keys in a fixed order."""
        body: dict[str, Any] = {
            "amount_minor": request.amount_minor,
            "currency": request.currency,
            "payment_method": request.token,
            "customer": request.customer_id,
            "reference": str(request.invoice_id),
            "off_session": True,
            "metadata": {"invoice_id": str(request.invoice_id), "attempt": request.ordinal},
        }
        if request.statement_descriptor is not None:
            body["statement_descriptor"] = request.statement_descriptor
        return json.dumps(body, separators=(",", ":")).encode()

    async def charge(self, *, request: bytes, key: str) -> ChargeOutcome:
        """One network try of a charge."""
        try:
            async with self._session.post(
                self._charge_url,
                data=request,
                headers={"Idempotency-Key": key},
                allow_redirects=False,
            ) as answer:
                body = await _read(answer)
                return charge_outcome(answer.status, answer.headers, body)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            return NotSent(f"not connected: {error}"[:200])
        except TimeoutError:
            return Unknown("no answer in time")
        except (aiohttp.ClientError, OSError, AnswerError) as error:
            return Unknown(f"{type(error).__name__}: {error}"[:200])

    async def look_up(self, *, key: str, reference: UUID, gateway_ref: str | None) -> LookupOutcome:
        """Read by the gateway's id, else by key, else by reference; absence needs both to agree."""
        if gateway_ref is not None:
            return await self._look("GET", self._url_of(gateway_ref))
        found = await self._search({"idempotency_key": key}, key)
        if isinstance(found, NotFound):
            return await self._search({"reference": str(reference)}, key)
        return found

    async def cancel(self, gateway_ref: str) -> LookupOutcome:
        """`POST /v1/charges/{id}/cancel`."""
        return await self._look("POST", self._url_of(gateway_ref) / "cancel")

    async def look_up_ref(self, gateway_ref: str) -> LedgerCharge | None:
        """`GET /v1/charges/{id}`, whole."""
        try:
            status, body = await self._call("GET", self._url_of(gateway_ref))
            return ledger_charge(parse_object(body)) if status == 200 else None
        except (aiohttp.ClientError, OSError, AnswerError):
            return None

    async def list_charges(
        self, *, created_from: datetime, created_to: datetime
    ) -> AsyncIterator[Sequence[LedgerCharge]]:
        """`GET /v1/charges` over a window, a page at a time."""
        window = {"created_from": rfc3339(created_from), "created_to": rfc3339(created_to)}
        cursor: str | None = None
        while True:
            asked = window if cursor is None else {**window, "cursor": cursor}
            try:
                charges, cursor = await self._page(asked)
            except (aiohttp.ClientError, OSError, AnswerError, KeyError, TypeError) as error:
                raise ServerUnreachable(
                    f"gateway {self.name} at {self._base}: its list of charges cannot be read "
                    f"({type(error).__name__}: {error})"
                ) from error
            yield charges
            if cursor is None:
                return

    async def set_clock(self, now: datetime) -> None:
        """`POST /v1/clock`; a server without it (404) keeps its own time."""
        try:
            status, _ = await self._call("POST", f"{self._base}/v1/clock", {"now": rfc3339(now)})
        except (aiohttp.ClientError, OSError, AnswerError) as error:
            raise ServerUnreachable(
                f"gateway {self.name} at {self._base}: its clock cannot be set ({error})"
            ) from error
        if status not in (200, 204, 404, 405):
            raise ServerUnreachable(f"gateway {self.name}: setting its clock answered {status}")

    async def is_healthy(self) -> bool:
        """`GET /v1/health` answers, and a look-up takes our key."""
        try:
            health, _ = await self._call("GET", f"{self._base}/v1/health")
            probe, _ = await self._call("GET", self._charges, params={"idempotency_key": "check"})
        except (aiohttp.ClientError, OSError, AnswerError):
            return False
        return (health, probe) == (200, 200)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    def _url_of(self, gateway_ref: str) -> URL:
        # Whoever told us the id, it names a charge and no other path.
        return URL(f"{self._charges}/{quote(gateway_ref, safe='')}", encoded=True)

    async def _page(self, asked: Mapping[str, str]) -> tuple[list[LedgerCharge], str | None]:
        status, body = await self._call("GET", self._charges, params=asked)
        if status != 200:
            raise AnswerError(f"status {status}")
        page = parse_object(body)
        return [ledger_charge(charge) for charge in page["data"]], page.get("next_cursor")

    async def _search(self, asked: Mapping[str, str], key: str) -> LookupOutcome:
        try:
            status, body = await self._call("GET", self._charges, params=asked)
            if status != 200:
                return Unknown(f"look-up answered {status}")
            for charge in parse_object(body)["data"]:
                if charge["idempotency_key"] == key:
                    return found(charge)
        except TimeoutError:
            return Unknown("look-up: no answer in time")
        except (aiohttp.ClientError, OSError, AnswerError, KeyError, TypeError) as error:
            return Unknown(f"look-up: {type(error).__name__}: {error}"[:200])
        return NotFound()

    async def _look(self, method: str, url: URL) -> LookupOutcome:
        try:
            status, body = await self._call(method, url)
            if status == 404:
                return NotFound()
            return found(parse_object(body)) if status == 200 else Unknown(f"answered {status}")
        except TimeoutError:
            return Unknown("look-up: no answer in time")
        except (aiohttp.ClientError, OSError, AnswerError) as error:
            return Unknown(f"look-up: {type(error).__name__}: {error}"[:200])

    async def _call(
        self,
        method: str,
        url: str | URL,
        json_body: Mapping[str, str] | None = None,
        *,
        params: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        async with self._session.request(
            method, url, json=json_body, params=params, allow_redirects=False
        ) as answer:
            return answer.status, await _read(answer)


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    if (answer.content_length or 0) > MAX_BODY_BYTES:
        raise AnswerError(f"a body of {answer.content_length} bytes")
    if answer.content_length is not None:
        return await answer.read()
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise AnswerError("a body over 1 MB")
    return bytes(body)
