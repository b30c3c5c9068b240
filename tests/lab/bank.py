"""A client of a served sandbox that hides nothing of HTTP: status, headers and body as they came."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import aiohttp
from multidict import CIMultiDictProxy

from lab.sandbox import FaultPlan, RunningSandbox, SandboxFaults

API_KEY = "sk_test_lab"
PATIENCE = aiohttp.ClientTimeout(total=10)


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: CIMultiDictProxy[str]
    body: Any

    @property
    def error(self) -> Any:
        return self.body["error"]

    @property
    def is_replayed(self) -> bool:
        return self.headers.get("Idempotent-Replayed") == "true"


class Bank:
    """One sandbox and a session that knows its key."""

    def __init__(self, sandbox: RunningSandbox, session: aiohttp.ClientSession) -> None:
        self.sandbox = sandbox
        self._session = session
        self._keys = 0

    async def call(
        self,
        method: str,
        path: str,
        *,
        key: str | None = None,
        api_key: str = API_KEY,
        json: Any = None,
        data: bytes | None = None,
        params: dict[str, str] | None = None,
        timeout_s: float = 10,
    ) -> Reply:
        """One request; bodies that are not JSON raise ContentTypeError."""
        headers = {"Authorization": f"Bearer {api_key}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        async with self._session.request(
            method,
            self.sandbox.url + path,
            headers=headers,
            json=json,
            data=data,
            params=params,
            timeout=aiohttp.ClientTimeout(total=timeout_s),
        ) as answer:
            return Reply(answer.status, answer.headers, await answer.json())

    async def get(self, path: str, **params: str) -> Reply:
        return await self.call("GET", path, params=params)

    async def charge(
        self, token: str = "tok_ok_1", *, key: str | None = None, timeout_s: float = 10, **body: Any
    ) -> Reply:
        """POST /v1/charges; a key of its own unless one is given."""
        self._keys += 1
        return await self.call(
            "POST",
            "/v1/charges",
            key=key or f"key-{self._keys}",
            json=charge_body(token, **body),
            timeout_s=timeout_s,
        )

    async def refund(self, charge: str, amount_minor: int, *, key: str) -> Reply:
        body = {"charge": charge, "amount_minor": amount_minor}
        return await self.call("POST", "/v1/refunds", key=key, json=body)

    async def keys_of_charges(self, **params: str) -> list[str]:
        """The idempotency keys that a look-up of charges lists."""
        reply = await self.get("/v1/charges", **params)
        return [charge["idempotency_key"] for charge in reply.body["data"]]

    async def has_charged(self) -> bool:
        """Whether any charge was executed yet."""
        return bool(self.sandbox.charges())

    def executed(self, key: str) -> int:
        """How many charges the ledger holds for a key: what the oracle says."""
        return sum(
            entry["kind"] == "charge" and entry["idempotency_key"] == key
            for entry in self.sandbox.ledger()
        )

    def meet(self, **faults: Any) -> None:
        """From now on these are the faults of every token."""
        self.sandbox.set_faults(FaultPlan(faults=SandboxFaults.model_validate(faults)))

    def move_to(self, now: datetime) -> None:
        self.sandbox.set_clock(now)


def charge_body(token: str = "tok_ok_1", **changed: Any) -> dict[str, Any]:
    """A valid body; `changed` fields replace or, if None, leave out."""
    body: dict[str, Any] = {
        "amount_minor": 1999,
        "currency": "USD",
        "payment_method": token,
        "customer": "cus_1",
        "reference": "inv_1",
        "off_session": True,
        "metadata": {"invoice_id": "inv_1", "attempt": 1},
    }
    return {field: value for field, value in (body | changed).items() if value is not None}
