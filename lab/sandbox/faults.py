"""What can go wrong at the sandbox gateway: the faults as a table, and when they strike.

Whether the nth request of a key meets a fault is a hash of (seed, key, n): the same run meets the
same faults, and a resend may meet another one than its first send.
"""

import math
from bisect import bisect
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import accumulate

from lab.draws import normal, stream_key, uniform
from lab.sandbox.config import Fault, FaultPlan, Latency, SandboxFaults

_FAULT_SLOT = 1
_LATENCY_SLOT = 2


class Damage(StrEnum):
    """What happens to an answer on its way."""

    NONE = "none"
    RESET = "reset"
    SILENCE = "silence"
    NOT_JSON = "not_json"
    DRIP = "drip"
    HUGE = "huge"
    WRONG_AMOUNT = "wrong_amount"


@dataclass(frozen=True, slots=True)
class Effect:
    """`reaches`: the key store sees the request. `executes`: money moves now (`times` times)."""

    reaches: bool = True
    executes: bool = True
    status: int = 200
    damage: Damage = Damage.NONE
    times: int = 1
    late: bool = False


NO_FAULT = Effect()

EFFECTS: dict[Fault, Effect] = {
    Fault.ERROR_500: Effect(executes=False, status=500),
    Fault.ERROR_400: Effect(reaches=False, executes=False, status=400),
    Fault.ERROR_401: Effect(reaches=False, executes=False, status=401),
    Fault.ERROR_404: Effect(reaches=False, executes=False, status=404),
    Fault.ERROR_409: Effect(reaches=False, executes=False, status=409),
    Fault.ERROR_502: Effect(executes=False, status=502),
    Fault.ERROR_503: Effect(executes=False, status=503),
    Fault.RATE_LIMITED: Effect(reaches=False, executes=False, status=429),
    Fault.RESET: Effect(reaches=False, executes=False, damage=Damage.RESET),
    Fault.SILENCE: Effect(reaches=False, executes=False, damage=Damage.SILENCE),
    Fault.NOT_JSON: Effect(reaches=False, executes=False, damage=Damage.NOT_JSON),
    Fault.CHARGE_THEN_500: Effect(status=500),
    Fault.CHARGE_THEN_502: Effect(status=502),
    Fault.CHARGE_THEN_503: Effect(status=503),
    Fault.CHARGE_THEN_RESET: Effect(damage=Damage.RESET),
    Fault.CHARGE_THEN_SILENCE: Effect(damage=Damage.SILENCE),
    Fault.CHARGE_THEN_NOT_JSON: Effect(damage=Damage.NOT_JSON),
    Fault.SLOW_DRIP: Effect(damage=Damage.DRIP),
    Fault.HUGE_BODY: Effect(damage=Damage.HUGE),
    Fault.WRONG_AMOUNT: Effect(damage=Damage.WRONG_AMOUNT),
    Fault.LATE_SILENCE: Effect(executes=False, damage=Damage.SILENCE, late=True),
    Fault.LATE_500: Effect(executes=False, status=500, late=True),
    Fault.EXECUTE_TWICE: Effect(times=2),
}


OUTAGES: dict[str, Effect] = {
    "503": Effect(reaches=False, executes=False, status=503),
    "reset": EFFECTS[Fault.RESET],
    "silence": EFFECTS[Fault.SILENCE],
}


class FaultDraws:
    """The settings of one token prefix, compiled for drawing."""

    def __init__(self, settings: SandboxFaults, *, seed: int) -> None:
        self.settings = settings
        self._seed = seed
        self._charge_table = _Table(settings.rates)
        self._read_table = _Table(settings.read_rates)
        self._fixed_s = settings.latency.ms / 1000 if settings.latency.kind == "fixed" else None

    def outage_at(self, now: datetime) -> Effect | None:
        """What an outage does to every request of that instant."""
        for outage in self.settings.outages:
            if outage.starts_at <= now < outage.ends_at:
                return OUTAGES[outage.answer]
        return None

    @property
    def counts_requests(self) -> bool:
        """Whether anything depends on which request of its key a request is."""
        return self._charge_table.active or self._read_table.active or self._fixed_s is None

    def of_charge(self, key: str, nth: int) -> Fault | None:
        """The fault that the nth POST with this key meets, if any."""
        return self._charge_table.draw(self._seed, key, nth)

    def of_read(self, target: str, nth: int) -> Fault | None:
        """The fault that the nth GET of this target meets, if any."""
        return self._read_table.draw(self._seed, target, nth)

    def latency_s(self, key: str, nth: int) -> float:
        """Seconds from request to answer."""
        if self._fixed_s is not None:
            return self._fixed_s
        return _draw_latency_s(self.settings.latency, stream_key(self._seed, key, nth))


class FaultBook:
    """Finds the settings of a token: the longest prefix wins, else the ones for everything."""

    def __init__(self, plan: FaultPlan, *, seed: int) -> None:
        self.plan = plan
        self.everywhere = FaultDraws(plan.faults, seed=seed)
        self._by_prefix = [
            (prefix, FaultDraws(plan.faults_by_prefix[prefix], seed=seed))
            for prefix in sorted(plan.faults_by_prefix, key=len, reverse=True)
        ]

    def of(self, token: str) -> FaultDraws:
        for prefix, draws in self._by_prefix:
            if token.startswith(prefix):
                return draws
        return self.everywhere


class _Table:
    """Cumulated rates: one draw decides between all faults and none."""

    def __init__(self, rates: dict[Fault, float]) -> None:
        self._faults = list(rates)
        self._edges = list(accumulate(rates.values()))
        self.active = any(rates.values())

    def draw(self, seed: int, key: str, nth: int) -> Fault | None:
        if not self.active:
            return None
        index = bisect(self._edges, uniform(stream_key(seed, key, nth), _FAULT_SLOT))
        return self._faults[index] if index < len(self._faults) else None


def _draw_latency_s(latency: Latency, key: int) -> float:
    if latency.kind == "uniform":
        ms = latency.ms + (latency.max_ms - latency.ms) * uniform(key, _LATENCY_SLOT)
    else:
        ms = latency.ms * math.exp(latency.sigma * normal(key, _LATENCY_SLOT))
    return min(ms, latency.max_ms) / 1000
