"""What a payment token makes the sandbox do: its text is the script.

    tok_ok_*                   approves
    tok_decline_<code>_*       declines with the code
    tok_seq_<a>-<b>-…_*        answers in that order, `ok` or a code each; the last repeats
    tok_pending_<ok|code>_*    pending first, settles so later
    tok_action_<ok|code>_*     asks for action first, ends so once the payer has acted
    tok_sim_<population>_<id>  the issuer model answers for the person `id`

A tail that begins with `mac` and two digits sets the merchant advice code of a decline, as in
`tok_decline_insufficient_funds_mac25_7`.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from lab.sandbox.codes import DECLINES

_CODE = "|".join(sorted(DECLINES, key=len, reverse=True))
_RESULT = f"(?:ok|{_CODE})"
_TOKEN = re.compile(
    r"tok_(?:ok"
    rf"|decline_(?P<decline>{_CODE})"
    rf"|seq_(?P<sequence>{_RESULT}(?:-{_RESULT})*)"
    rf"|(?P<flow>pending|action)_(?P<later>{_RESULT})"
    r")(?:_(?:mac(?P<advice>\d\d))?.*)?"
)
_SIMULATED = re.compile(r"tok_sim_(?P<population>[a-z0-9-]+)_(?P<person_id>.+)")


class Flow(StrEnum):
    """When a charge gets its result."""

    NOW = "now"
    PENDING = "pending"
    ACTION = "action"


@dataclass(frozen=True, slots=True)
class Script:
    """Fixed results, one per executed charge of the token."""

    results: tuple[str, ...]
    flow: Flow = Flow.NOW
    advice_code: str | None = None

    def result(self, executed_before: int) -> str:
        """`ok` or a decline code; the last result repeats."""
        return self.results[min(executed_before, len(self.results) - 1)]


_OK = Script(("ok",))


@dataclass(frozen=True, slots=True)
class Simulated:
    """The issuer model answers for this person."""

    population: str
    person_id: str


def read_token(token: str) -> Script | Simulated | None:
    """The script of a token, or None if the sandbox knows no such token."""
    return _OK if token.startswith("tok_ok_") else _parse(token)


@lru_cache(maxsize=65_536)
def _parse(token: str) -> Script | Simulated | None:
    if simulated := _SIMULATED.fullmatch(token):
        return Simulated(simulated["population"], simulated["person_id"])
    match = _TOKEN.fullmatch(token)
    if match is None:
        return None
    results = match["decline"] or match["sequence"] or match["later"] or "ok"
    flow = Flow(match["flow"] or Flow.NOW)
    return Script(tuple(results.split("-")), flow, match["advice"])
