"""How issuers and their customers answer: the model behind `tok_sim_` tokens and simulated policies.

Floats are hours and chances, never money. Times as in lab/people.py; `after` means hours after the
first attempt of an invoice.

What is drawn once and what is drawn again, each a hash of (seed, id, slot):

    person        funding, wages (how often, weekday, hour), stressed, Z_i, issuer
    person, cycle Z_ic: how long the money of one pay cycle lasts
    invoice       hold, dead card, SCA, top-up, dormancy, codes, reactions to mail
    issuer, block outage of 90 minutes
    invoice, day  noise of retries (redrawn within the day with chance `refresh`); night by hour

An answer is a pure function of the world, the invoice, the hour and the earlier declines: asking
twice in the same hour gives the same answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from lab.draws import exponential, pick, stream_key, uniform
from lab.people import (
    Case,
    Person,
    Slot,
    draw_case,
    draw_first_attempt,
    draw_person,
    lacks_money,
)
from lab.population import Population

_OUTAGE_BLOCK_HOURS = 1.5
_VELOCITY_HOURS = 24
_HOLD_CODES = ("do_not_honor", "generic_decline", "try_again_later")
_HOLD_WEIGHTS = (0.55, 0.35, 0.10)
_CARD_CODES = (
    "expired_card",
    "lost_card",
    "stolen_card",
    "invalid_account",
    "generic_decline",
    "do_not_honor",
)
_CARD_WEIGHTS = (0.45, 0.075, 0.075, 0.15, 0.10, 0.15)


class Reason(StrEnum):
    """Why the model refuses: latent, never shown to a policy."""

    LIQUIDITY = "liquidity"
    HOLD = "hold"
    NIGHT = "night"
    CARD = "card"
    SCA = "sca"
    OUTAGE = "outage"
    NOISE = "noise"


class ReactionKind(StrEnum):
    """What a customer does about a mail."""

    ACT = "act"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A decline: the latent reason and the code that is reported."""

    reason: Reason
    code: str


@dataclass(frozen=True, slots=True)
class Reaction:
    """A customer's reaction `delay_hours` after a mail; `succeeds` says whether acting pays."""

    kind: ReactionKind
    delay_hours: float
    succeeds: bool


class World:
    """One seeded draw of a population. Holds no state but its parameters."""

    def __init__(self, population: Population, *, seed: int) -> None:
        self.population = population
        self.seed = seed
        self._key = stream_key(seed)

    def person(self, person_id: str) -> Person:
        """The latent person of that id: the same in every case and for every policy."""
        return draw_person(self.population, seed=self.seed, person_id=person_id)

    def first_attempt(self, invoice_id: str) -> float:
        """When a reference run first tries that invoice: absolute hours, spread over 840 days."""
        return draw_first_attempt(self.population, seed=self.seed, invoice_id=invoice_id)

    def case(self, person: Person, invoice_id: str, *, first_at: float) -> Case:
        """The latent state of one invoice whose first attempt is made at `first_at`."""
        return draw_case(
            self.population, person, seed=self.seed, invoice_id=invoice_id, first_at=first_at
        )

    def answer(
        self, case: Case, after: float, *, declined_after: Sequence[float] = ()
    ) -> Refusal | None:
        """None approves. `declined_after`: the earlier declines of this invoice, rising, first 0.

        Order of the checks when several hold: liquidity, hold, night, card, SCA, outage, noise; it
        decides only which code is told.
        """
        reason = self._reason(case, after, declined_after)
        if reason is None:
            return None
        return Refusal(reason, self._code(case, reason, int(case.first_at + after)))

    def mail_reaction(self, case: Case, mail_index: int) -> Reaction | None:
        """What mail number `mail_index` (0 first) moves the customer to; None: nothing.

        Ask only while the invoice is unpaid, and drop reactions that come after it was paid.
        """
        mail = self.population.mail
        if mail_index >= len(mail.days):
            return None
        weight = mail.r_hard if case.dead or case.sca else mail.r_soft
        delay = exponential(mail.delay_mean_hours, case.key, Slot.MAIL_DELAY, mail_index)
        if uniform(case.key, Slot.MAIL_ACTS, mail_index) < mail.acts[mail_index] * weight:
            pays = uniform(case.key, Slot.MAIL_SUCCEEDS, mail_index) < mail.succeeds
            return Reaction(ReactionKind.ACT, delay, pays)
        if uniform(case.key, Slot.MAIL_CANCELS, mail_index) < mail.cancels:
            return Reaction(ReactionKind.CANCEL, delay, succeeds=False)
        return None

    def _reason(self, case: Case, after: float, declined_after: Sequence[float]) -> Reason | None:
        if lacks_money(case, after):
            return Reason.LIQUIDITY
        if after < self._hold_until(case, declined_after):
            return Reason.HOLD
        if self._refused_at_night(case, case.first_at + after):
            return Reason.NIGHT
        if case.dead:
            return Reason.CARD
        return Reason.SCA if case.sca else self._passing_reason(case, after)

    def _passing_reason(self, case: Case, after: float) -> Reason | None:
        """Troubles that have nothing to do with this card: first attempts meet no noise."""
        at = case.first_at + after
        block = int(at // _OUTAGE_BLOCK_HOURS)
        down = uniform(self._key, Slot.OUTAGE + case.person.issuer, block)
        if down < case.person.funding.tech:
            return Reason.OUTAGE
        return Reason.NOISE if after > 0 and self._is_noisy(case, at) else None

    def _code(self, case: Case, reason: Reason, hour: int) -> str:
        """What the issuer says: not always the reason, as in life."""
        match reason:
            case Reason.LIQUIDITY:
                masked = uniform(case.key, Slot.MASK) < self.population.mask
                return "do_not_honor" if masked else "insufficient_funds"
            case Reason.HOLD:
                return _hold_code(case.key, 0)
            case Reason.NIGHT | Reason.NOISE:
                return _hold_code(case.key, 1 + hour)
            case Reason.CARD:
                return _CARD_CODES[pick(_CARD_WEIGHTS, uniform(case.key, Slot.CARD_CODE))]
            case Reason.SCA:
                return "authentication_required"
            case Reason.OUTAGE:
                return "processing_error"
            case _:
                assert_never(reason)

    def _hold_until(self, case: Case, declined_after: Sequence[float]) -> float:
        """A retry within 24 h of a decline may extend a hold that still stands."""
        ends = case.hold_ends
        for index in range(1, len(declined_after)):
            retried = declined_after[index]
            hasty = retried - declined_after[index - 1] < _VELOCITY_HOURS
            if hasty and retried < ends:
                extended = uniform(case.key, Slot.VELOCITY, index) < self.population.velocity
                ends = max(ends, retried + _VELOCITY_HOURS) if extended else ends
        return ends

    def _refused_at_night(self, case: Case, at: float) -> bool:
        start, end = self.population.night_hours
        if not start <= at % 24 < end:
            return False
        extra = (self.population.night - 1) * case.person.funding.risk
        return uniform(case.key, Slot.NIGHT, int(at)) < extra

    def _is_noisy(self, case: Case, at: float) -> bool:
        hour = int(at)
        if uniform(case.key, Slot.NOISE_REFRESH, hour) < self.population.refresh:
            return uniform(case.key, Slot.NOISE_HOUR, hour) < self.population.noise
        return uniform(case.key, Slot.NOISE_DAY, hour // 24) < self.population.noise


def _hold_code(key: int, index: int) -> str:
    return _HOLD_CODES[pick(_HOLD_WEIGHTS, uniform(key, Slot.HOLD_CODE, index))]
