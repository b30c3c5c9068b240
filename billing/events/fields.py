"""The kinds of fields of platform messages: what each must look like, in words a sender understands.

The expectation of a field is the text of its error: `data.price.currency is "XXQ": should be an ISO
4217 code`. Source of the bounds: docs/contract/platform-events.md.
"""

import re
from collections.abc import Callable
from datetime import datetime, time
from functools import lru_cache
from typing import Annotated, Any

from babel.core import Locale, UnknownLocaleError
from pydantic import AfterValidator, Field, PlainValidator, StringConstraints
from pydantic_core import PydanticCustomError

from billing.calendar import is_zone
from billing.money import is_currency

MAX_AMOUNT_MINOR = 10**12
MAX_QUANTITY = 10**6
MAX_ID = 128
MAX_SOURCE = 256
"""Keys of an index: a row of it must stay under 2,704 bytes, four bytes a character."""

FIRST_YEAR, LAST_YEAR = 1970, 2999
"""Instants outside are slips of a keyboard, and the calendar would run out of datetime's years."""

_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE
)
_CLOCK_TIME = re.compile(r"(?:[01]\d|2[0-3]):[0-5]\d", re.ASCII)
_EMAIL = re.compile(r"[^\s@<>,;]+@[^\s@<>,;]+")
_COUNTRY = re.compile(r"[A-Z]{2}")


def expected(expectation: str, *, field: str | None = None) -> PydanticCustomError:
    """The error of a value that is not `expectation`; `field` names a field of the object."""
    return PydanticCustomError(
        "expected", "{expectation}", {"expectation": expectation, "field": field}
    )


def not_built(field: str | None = None) -> PydanticCustomError:
    """The error of a value that the contract knows and this version does not."""
    return PydanticCustomError("not_built", "not built in this version", {"field": field})


def _without(unbuilt: Callable[[Any], bool]) -> AfterValidator:
    def check(told: Any) -> Any:
        if told is not None and unbuilt(told):
            raise not_built()
        return told

    return AfterValidator(check)


def _text(accepts: Callable[[str], object], expectation: str) -> AfterValidator:
    def check(text: str) -> str:
        if not accepts(text):
            raise expected(expectation)
        return text

    return AfterValidator(check)


@lru_cache(maxsize=1024)
def is_locale(tag: str) -> bool:
    """Whether a BCP 47 tag names a language and, if any, a territory that CLDR knows."""
    try:
        Locale.parse(tag, sep="-")
    except UnknownLocaleError:
        language, _, territory = tag.rpartition("-")
        return bool(language) and territory.upper() in _territories() and is_locale(language)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=1)
def _territories() -> frozenset[str]:
    return frozenset(Locale("en").territories)


def _instant(told: Any) -> datetime:
    """An RFC 3339 instant; it keeps the offset it was told with."""
    problem = expected("an RFC 3339 instant like 2026-01-31T10:00:00Z")
    if not isinstance(told, str) or not _RFC3339.fullmatch(told):
        raise problem
    try:
        at = datetime.fromisoformat(told.upper())
    except ValueError:
        raise problem from None
    if not FIRST_YEAR < at.year < LAST_YEAR:
        raise expected(f"an instant after {FIRST_YEAR} and before {LAST_YEAR}")
    return at


def _schedule(told: Any) -> tuple[int, ...] | str:
    """Days after the first decline, or `learned`."""
    if told == "learned":
        return "learned"
    days = told if isinstance(told, list) else []
    if not days or not all(type(day) is int and 1 <= day <= 365 for day in days):
        raise expected('a list of days from 1 to 365, or "learned"')
    return tuple(days)


def _clock_time(told: str) -> time:
    if not _CLOCK_TIME.fullmatch(told):
        raise expected("a time of day like 09:00")
    return time.fromisoformat(told)


Id = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID)]
Source = Annotated[str, StringConstraints(min_length=1, max_length=MAX_SOURCE)]
Token = Annotated[str, StringConstraints(min_length=1)]
Text = str
Instant = Annotated[datetime, PlainValidator(_instant)]
Zone = Annotated[str, _text(is_zone, "an IANA time zone like America/Sao_Paulo")]
Currency = Annotated[str, _text(is_currency, "an ISO 4217 code like BRL")]
Language = Annotated[str, _text(is_locale, "a BCP 47 locale like pt-BR")]
Country = Annotated[str, _text(_COUNTRY.fullmatch, "an ISO 3166-1 code like BR")]
Email = Annotated[str, StringConstraints(max_length=320), _text(_EMAIL.fullmatch, "a mail address")]
Amount = Annotated[int, Field(ge=0, le=MAX_AMOUNT_MINOR)]
PositiveAmount = Annotated[int, Field(ge=1, le=MAX_AMOUNT_MINOR)]
Quantity = Annotated[int, Field(ge=1, le=MAX_QUANTITY)]
Count = Annotated[int, Field(ge=1, le=MAX_QUANTITY)]
OneCount = Annotated[Count, _without(lambda count: count > 1)]
OnlyFalse = Annotated[bool, _without(lambda wanted: wanted)]
"""Wishes about money that this version cannot grant: refused, because ignoring them charges wrongly."""
Days = Annotated[int, Field(ge=0, le=3650)]
Schedule = Annotated[tuple[int, ...] | str, PlainValidator(_schedule)]
ClockTime = Annotated[str, AfterValidator(lambda told: _clock_time(told) and told)]
