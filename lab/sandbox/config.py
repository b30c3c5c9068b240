"""Settings of the sandbox gateway, as a program gives them or as JSON."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

Rate = Annotated[float, Field(ge=0, le=1)]
Duration = Annotated[float, Field(ge=0)]
Text = Annotated[str, Field(min_length=1, max_length=255)]


class Fault(StrEnum):
    """One way for a request to go wrong. 5xx answers are stored under the key and replayed."""

    ERROR_500 = "error_500"  # nothing charged
    ERROR_400 = "error_400"  # refused before anything happened, as 401 and 404 are
    ERROR_401 = "error_401"
    ERROR_404 = "error_404"
    ERROR_409 = "error_409"  # the key is in use, it says
    ERROR_502 = "error_502"
    ERROR_503 = "error_503"
    RATE_LIMITED = "rate_limited"  # 429 with Retry-After: nothing happened
    RESET = "reset"  # before anything happened
    SILENCE = "silence"  # the request is lost, no answer ever comes
    NOT_JSON = "not_json"  # a proxy's page instead of the gateway: nothing happened
    CHARGE_THEN_500 = "charge_then_500"
    CHARGE_THEN_502 = "charge_then_502"
    CHARGE_THEN_503 = "charge_then_503"
    CHARGE_THEN_RESET = "charge_then_reset"
    CHARGE_THEN_SILENCE = "charge_then_silence"
    CHARGE_THEN_NOT_JSON = "charge_then_not_json"
    SLOW_DRIP = "slow_drip"  # charged; the answer comes byte by byte
    HUGE_BODY = "huge_body"  # charged; the answer is over 1 MB
    WRONG_AMOUNT = "wrong_amount"  # charged rightly; the first answer echoes another amount
    LATE_SILENCE = "late_silence"  # no answer; the request arrives late_minutes later
    LATE_500 = "late_500"  # a stored 500; the charge is executed late_minutes later all the same
    EXECUTE_TWICE = "execute_twice"  # a broken gateway: one key, two charges


READ_FAULTS = frozenset(
    {
        Fault.ERROR_500,
        Fault.ERROR_502,
        Fault.ERROR_503,
        Fault.RATE_LIMITED,
        Fault.RESET,
        Fault.SILENCE,
        Fault.NOT_JSON,
        Fault.SLOW_DRIP,
        Fault.HUGE_BODY,
    }
)
"""What a look-up can meet."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Latency(_Settings):
    """Milliseconds from request to answer, machine time.

    `fixed`: ms. `uniform`: between ms and max_ms. `lognormal`: median ms, spread sigma, cut at
    max_ms.
    """

    kind: Literal["fixed", "uniform", "lognormal"] = "fixed"
    ms: Duration = 0
    max_ms: Duration = 30_000
    sigma: Duration = 0.5


class Outage(_Settings):
    """From `starts_at` until before `ends_at`, gateway time, nothing reaches the gateway."""

    starts_at: AwareDatetime
    ends_at: AwareDatetime
    answer: Literal["503", "reset", "silence"] = "503"


class SandboxFaults(_Settings):
    """The faults of one token prefix or of everything; all rates together are at most 1.

    Ages and lags are of gateway time, latency and drip of machine time.
    """

    rates: dict[Fault, Rate] = {}
    read_rates: dict[Fault, Rate] = {}
    latency: Latency = Latency()
    outages: tuple[Outage, ...] = ()
    late_minutes: Duration = 20
    retry_after_s: Annotated[int, Field(ge=0)] = 1
    drip_bytes_per_s: Annotated[float, Field(gt=0)] = 10
    key_lifetime_hours: Duration = 24
    lookup_lag_s: Duration = 0
    stores_5xx: bool = True

    @model_validator(mode="after")
    def _rates_are_a_choice(self) -> Self:
        for field, rates in (("rates", self.rates), ("read_rates", self.read_rates)):
            if sum(rates.values()) > 1:
                raise ValueError(f"{field} add up to {sum(rates.values()):g}, expected at most 1")
        if unfit := sorted(set(self.read_rates) - READ_FAULTS):
            raise ValueError(f"read_rates.{unfit[0]}: a look-up cannot meet this fault")
        return self


class FaultPlan(_Settings):
    """What `PUT /v1/sandbox/faults` sets: for everything, and instead of it by token prefix."""

    faults: SandboxFaults = SandboxFaults()
    faults_by_prefix: dict[Text, SandboxFaults] = {}


class ClockOrder(_Settings):
    """The body of `POST /v1/clock`; null gives the clock back to the machine."""

    now: AwareDatetime | None


class SandboxConfig(FaultPlan):
    """All settings of one sandbox gateway.

    `refund_api_key`, if set, is the only key that `POST /v1/refunds` takes. Pending charges settle
    `pending_settles_s` after they were made, asked actions are done after `action_completes_s`
    (None: never, the charge is canceled when the action expires); both gateway time.
    """

    api_key: Text = Field(repr=False)
    refund_api_key: Text | None = Field(default=None, repr=False)
    seed: int = 1
    page_size: Annotated[int, Field(ge=1, le=1000)] = 100
    pending_settles_s: Duration = 86_400
    action_completes_s: Duration | None = 3600
    action_expires_s: Annotated[float, Field(gt=0)] = 86_400
    populations: dict[str, Path] = {}
    """Files for `tok_sim_<name>_…` beside the shipped ones."""

    def plan(self) -> FaultPlan:
        return FaultPlan(faults=self.faults, faults_by_prefix=self.faults_by_prefix)


def first_problem(error: ValidationError) -> tuple[str, str]:
    """The field at fault with dots, and what was expected of it."""
    problem = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in problem["loc"])
    return field, problem["msg"].removeprefix("Value error, ")
