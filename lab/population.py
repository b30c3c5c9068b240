"""A population of payers: the parameters of the issuer model, one TOML file each.

The model is in lab/issuer.py; the figures of `base` and `emerging` were fitted to published decline
and recovery rates. Other files with the same keys work the same way.
"""

import math
import tomllib
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

POPULATIONS_DIR = Path(__file__).parent / "populations"

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Spread = Annotated[float, Field(ge=0)]
Hour = Annotated[int, Field(ge=0, le=24)]


class PopulationError(ValueError):
    """A population file cannot be used; the message is one line that names file, field and value."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FirstAttempt(_Table):
    """When invoices are first tried, local hours: [from, before), uniform inside each window."""

    business_share: Probability
    business_hours: tuple[Hour, Hour]
    other_hours: tuple[Hour, Hour]

    @model_validator(mode="after")
    def _windows_are_ordered(self) -> Self:
        _need_window("business_hours", self.business_hours)
        _need_window("other_hours", self.other_hours)
        return self


class Hold(_Table):
    """How long an issuer holds a card it distrusts; an infinite mean lasts until the customer acts."""

    weights: tuple[Probability, ...]
    mean_days: tuple[Positive, ...]

    @model_validator(mode="after")
    def _is_a_mixture(self) -> Self:
        _need_sum("weights", self.weights)
        if len(self.mean_days) != len(self.weights):
            raise ValueError(f"mean_days has {len(self.mean_days)} values, weights needs as many")
        return self


class Mail(_Table):
    """How customers react to the mails of dunning; `acts` has one chance per mail day."""

    days: tuple[Annotated[float, Field(ge=0)], ...]
    acts: tuple[Probability, ...]
    r_hard: Spread
    r_soft: Spread
    succeeds: Probability
    cancels: Probability
    delay_mean_hours: Positive

    @model_validator(mode="after")
    def _one_chance_per_mail(self) -> Self:
        if len(self.acts) != len(self.days):
            raise ValueError(f"acts has {len(self.acts)} values, days needs as many")
        if list(self.days) != sorted(self.days):
            raise ValueError(f"days = {list(self.days)}, expected rising numbers")
        return self


class Funding(_Table):
    """One kind of account; `pay` is the chance of weekly, biweekly, semimonthly and monthly wages."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    share: Probability
    stressed: Probability
    money_lasts: Positive
    sigma_person: Spread
    sigma_cycle: Spread
    pay: tuple[Probability, Probability, Probability, Probability]
    risk: Probability
    dead: Probability
    sca: Probability
    tech: Probability
    dormant: Probability

    @model_validator(mode="after")
    def _is_paid_somehow(self) -> Self:
        _need_sum("pay", self.pay)
        return self


class Population(_Table):
    """All parameters of one population; shares and mixtures are checked to add up to 1."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    issuers: Annotated[int, Field(ge=1)]
    noise: Probability
    refresh: Probability
    velocity: Probability
    mask: Probability
    night: Annotated[float, Field(ge=1)]
    topup_per_day: Positive
    friday: Probability
    dormant_mean_days: Positive
    night_hours: tuple[Hour, Hour]
    first_attempt: FirstAttempt
    hold: Hold
    mail: Mail
    funding: tuple[Funding, ...]

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        _need_window("night_hours", self.night_hours)
        _need_sum("the shares of funding", [kind.share for kind in self.funding])
        return self


def load_population(path: Path) -> Population:
    """Read and check one file. Raises PopulationError with one line that says what is wrong."""
    try:
        with path.open("rb") as file:
            return Population.model_validate(tomllib.load(file))
    except OSError as error:
        raise PopulationError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PopulationError(f"{path}: not TOML: {error}") from None
    except ValidationError as error:
        raise PopulationError(f"{path}: {_first_problem(error)}") from None


def load_shipped(name: str) -> Population:
    """A population that comes with the lab, by name. Raises PopulationError."""
    path = POPULATIONS_DIR / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in POPULATIONS_DIR.glob("*.toml")))
        raise PopulationError(f"population = {name!r}, expected one of {known}")
    return load_population(path)


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{field} is missing"
    if problem["type"] == "value_error":
        return f"{field}: {message}" if field else message
    return f"{field} = {problem['input']!r}: {message}"


def _need_sum(field: str, weights: tuple[float, ...] | list[float]) -> None:
    if not math.isclose(sum(weights), 1, abs_tol=0.005):
        raise ValueError(f"{field} = {list(weights)} add up to {sum(weights):g}, expected 1")


def _need_window(field: str, window: tuple[int, int]) -> None:
    if window[0] >= window[1]:
        raise ValueError(f"{field} = {list(window)}, expected the earlier hour first")
