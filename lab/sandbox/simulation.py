"""Answers `tok_sim_<population>_<person>` tokens with the issuer model.

Each reference (invoice id) is one invoice of the model, first tried when its first charge was
executed; a payer's local time is UTC, and hour 0 of the model is Monday 2024-01-01.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache

from lab.issuer import World
from lab.people import Person, model_hours
from lab.population import POPULATIONS_DIR, load_population
from lab.sandbox.config import SandboxConfig
from lab.sandbox.records import Charge, ChargeStatus
from lab.sandbox.tokens import Simulated

_PERSONS_KEPT = 65_536  # about 20 MB; a person drawn anew is the same person


class Simulator:
    """The worlds of one sandbox, one per population, all drawn with its seed."""

    def __init__(self, config: SandboxConfig) -> None:
        """Raises PopulationError for a file that cannot be used."""
        shipped = {path.stem: path for path in POPULATIONS_DIR.glob("*.toml")}
        self._worlds = {
            name: World(load_population(path), seed=config.seed)
            for name, path in (shipped | config.populations).items()
        }
        self._person = lru_cache(maxsize=_PERSONS_KEPT)(self._draw_person)

    def knows(self, token: Simulated) -> bool:
        """Whether the token's population is loaded."""
        return token.population in self._worlds

    def result(
        self, token: Simulated, reference: str, at: datetime, earlier: Sequence[Charge]
    ) -> str:
        """`ok` or a decline code. `earlier`: the charges executed for this reference, in order."""
        world = self._worlds[token.population]
        first_at = model_hours(earlier[0].created_at if earlier else at)
        case = world.case(self._person(token), reference, first_at=first_at)
        declined_after = [
            model_hours(charge.created_at) - first_at
            for charge in earlier
            if charge.status is ChargeStatus.DECLINED
        ]
        refusal = world.answer(case, model_hours(at) - first_at, declined_after=declined_after)
        return "ok" if refusal is None else refusal.code

    def _draw_person(self, token: Simulated) -> Person:
        return self._worlds[token.population].person(token.person_id)
