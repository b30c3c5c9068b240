"""Payers and their invoices: what the issuer model draws once and then keeps.

Floats are hours and chances, never money. Absolute time is hours since `MODEL_EPOCH`, a Monday, in
the payer's local time; a month of the model has 30 days, so pay cycles have fixed lengths.
"""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum

from lab.draws import exponential, normal, pick, stream_key, uniform
from lab.population import Funding, Population

MODEL_EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
"""Hour 0 of the model: Monday, the first day of a 30-day month."""

SPREAD_DAYS = 840
"""Days over which a reference run spreads its invoices: whole weeks, biweeks and 30-day months."""

_CYCLE_HOURS = (168, 336, 360, 720)  # weekly, biweekly, semimonthly on 1st and 16th, monthly on 1st


@dataclass(frozen=True, slots=True)
class Person:
    """One payer's latent state. Wages post at `pay_offset + n · cycle_hours`."""

    key: int
    funding: Funding
    issuer: int
    stressed: bool
    money_lasts: float  # log of the share of a pay cycle, before the cycle's own spread
    cycle_hours: int
    pay_offset: int


@dataclass(frozen=True, slots=True)
class Case:
    """One invoice of one person, first tried at `first_at`; the other times are hours after it."""

    key: int
    person: Person
    first_at: float
    hold_ends: float
    dead: bool
    sca: bool
    topup_after: float
    dry_until: float


class Slot(IntEnum):
    """Names one draw of a key, so that no two draws share a number."""

    FUNDING = 1
    FREQUENCY = 2
    IS_FRIDAY = 3
    WEEKDAY = 4
    POST_HOUR = 5
    PARITY = 6
    STRESSED = 7
    PERSON_Z = 8
    ISSUER = 9
    FIRST_IN_BUSINESS = 10
    FIRST_DAY = 11
    FIRST_HOUR = 12
    HELD = 13
    HOLD_KIND = 14
    HOLD_LENGTH = 15
    DEAD = 16
    SCA = 17
    TOPUP = 18
    DORMANT = 19
    DORMANT_LENGTH = 20
    CARD_CODE = 21
    HOLD_CODE = 22
    MASK = 23
    CYCLE_Z = 30
    VELOCITY = 31
    NIGHT = 32
    NOISE_REFRESH = 33
    NOISE_HOUR = 34
    NOISE_DAY = 35
    MAIL_ACTS = 40
    MAIL_SUCCEEDS = 41
    MAIL_DELAY = 42
    MAIL_CANCELS = 43
    OUTAGE = 1000


def draw_person(population: Population, *, seed: int, person_id: str) -> Person:
    """The latent person of that id: the same in every invoice and for every policy."""
    key = stream_key(seed, "person", person_id)
    shares = [kind.share for kind in population.funding]
    funding = population.funding[pick(shares, uniform(key, Slot.FUNDING))]
    frequency = pick(funding.pay, uniform(key, Slot.FREQUENCY))
    spread = funding.sigma_person * normal(key, Slot.PERSON_Z)
    return Person(
        key=key,
        funding=funding,
        issuer=int(uniform(key, Slot.ISSUER) * population.issuers),
        stressed=uniform(key, Slot.STRESSED) < funding.stressed,
        money_lasts=math.log(funding.money_lasts) + spread,
        cycle_hours=_CYCLE_HOURS[frequency],
        pay_offset=_pay_offset(key, frequency, friday=population.friday),
    )


def draw_first_attempt(population: Population, *, seed: int, invoice_id: str) -> float:
    """When a reference run first tries that invoice: absolute hours, spread over 840 days."""
    key = stream_key(seed, "invoice", invoice_id)
    first = population.first_attempt
    in_business = uniform(key, Slot.FIRST_IN_BUSINESS) < first.business_share
    start, end = first.business_hours if in_business else first.other_hours
    day = int(uniform(key, Slot.FIRST_DAY) * SPREAD_DAYS)
    return day * 24 + start + (end - start) * uniform(key, Slot.FIRST_HOUR)


def draw_case(
    population: Population, person: Person, *, seed: int, invoice_id: str, first_at: float
) -> Case:
    """The latent state of one invoice whose first attempt is made at `first_at`."""
    key = stream_key(seed, "invoice", invoice_id)
    chances = person.funding
    dormant = uniform(key, Slot.DORMANT) < chances.dormant
    dormant_hours = exponential(24 * population.dormant_mean_days, key, Slot.DORMANT_LENGTH)
    dry_at_first = person.stressed and _is_dry(person, first_at)
    return Case(
        key=key,
        person=person,
        first_at=first_at,
        hold_ends=_hold_hours(population, key, chances.risk),
        dead=uniform(key, Slot.DEAD) < chances.dead,
        sca=uniform(key, Slot.SCA) < chances.sca,
        topup_after=exponential(24 / population.topup_per_day, key, Slot.TOPUP),
        dry_until=dormant_hours if dormant and dry_at_first else 0.0,
    )


def lacks_money(case: Case, after: float) -> bool:
    """Stressed, and either dormant or past what the pay cycle's money lasted for."""
    person = case.person
    if not person.stressed:
        return False
    if after < case.dry_until:
        return True
    at = case.first_at + after
    in_first_cycle = _cycle(person, at) == _cycle(person, case.first_at)
    if in_first_cycle and after >= case.topup_after:
        return False
    return _is_dry(person, at)


def model_hours(at: datetime) -> float:
    """Absolute hours of the model at an instant, for a payer whose local time is UTC."""
    return (at - MODEL_EPOCH).total_seconds() / 3600


def _pay_offset(key: int, frequency: int, *, friday: float) -> int:
    """Hours from the epoch to a pay posting: weekday or day of month, parity, hour 0 to 9."""
    hour = int(uniform(key, Slot.POST_HOUR) * 10)
    if frequency >= 2:
        return hour
    on_friday = uniform(key, Slot.IS_FRIDAY) < friday
    weekday = 4 if on_friday else int(uniform(key, Slot.WEEKDAY) * 4)
    odd_week = frequency == 1 and uniform(key, Slot.PARITY) < 0.5
    return hour + 24 * weekday + (168 if odd_week else 0)


def _hold_hours(population: Population, key: int, risk: float) -> float:
    if uniform(key, Slot.HELD) >= risk:
        return 0.0
    hold = population.hold
    mean_days = hold.mean_days[pick(hold.weights, uniform(key, Slot.HOLD_KIND))]
    return exponential(24 * mean_days, key, Slot.HOLD_LENGTH)


def _cycle(person: Person, at: float) -> int:
    return math.floor((at - person.pay_offset) / person.cycle_hours)


def _is_dry(person: Person, at: float) -> bool:
    cycle = _cycle(person, at)
    since_payday = at - person.pay_offset - cycle * person.cycle_hours
    spread = person.funding.sigma_cycle * normal(person.key, Slot.CYCLE_Z, cycle)
    return since_payday > person.cycle_hours * math.exp(person.money_lasts + spread)
