"""Languages of templates, and how amounts and dates read in a customer's locale.

A locale is a BCP 47 tag as the platform told it, perhaps one that nobody knows: every function here
falls back, step by step, to English.
"""

import copy
import re
from collections.abc import Collection
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo

from babel import Locale, UnknownLocaleError
from babel.dates import format_date
from babel.numbers import NumberPattern

from billing.money import Money, exponent

FALLBACK = "en"

_TOUCHING = re.compile(r"(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])")
"""Where a currency's letters touch digits: CLDR wants a space there, Babel leaves it out."""

ISOLATE, END_ISOLATE = "\u2068", "\u2069"


def language_of(tag: str | None, available: Collection[str]) -> str:
    """The most special of `available` (`pt_BR`, `pt`, `en`) that serves this locale."""
    parts = _parts(tag)
    candidates = ("_".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((name for name in candidates if name in available), FALLBACK)


@lru_cache(1024)
def locale_of(tag: str | None) -> Locale:
    """The nearest locale that CLDR knows."""
    parts = _parts(tag)
    for n in range(len(parts), 0, -1):
        try:
            return Locale.parse("_".join(parts[:n]))
        except (UnknownLocaleError, ValueError):
            continue
    return Locale(FALLBACK)


@lru_cache(1024)
def prose_locale(language: str, tag: str | None) -> Locale:
    """The locale of dates inside a text in `language`: with the customer's country if CLDR has it."""
    territory = locale_of(tag).territory
    known = Locale.parse(language)
    try:
        return Locale(known.language, territory=known.territory or territory)
    except UnknownLocaleError:
        return known


def format_amount(money: Money, locale: Locale) -> str:
    """An amount with its currency, `1.234,50 €`; the digits after the comma are ISO 4217's, not CLDR's.

    They differ for IRR and MGA, among others.
    """
    digits = exponent(money.currency)
    pattern: NumberPattern = copy.copy(locale.currency_formats["standard"])
    pattern.frac_prec = (digits, digits)
    number = Decimal(money.amount_minor).scaleb(-digits)
    text = str(pattern.apply(number, locale, currency=money.currency, currency_digits=False))
    return _TOUCHING.sub("\u00a0", text)


def isolated(text: str, locale: Locale) -> str:
    """The same for a plain text that runs the other way than the words around it."""
    return f"{ISOLATE}{text}{END_ISOLATE}" if locale.text_direction == "rtl" else text


def format_day(at: datetime, locale: Locale, zone: str) -> str:
    """The local date of an instant, `14 February 2026`."""
    return format_date(at.astimezone(ZoneInfo(zone)).date(), format="long", locale=locale)


def _parts(tag: str | None) -> list[str]:
    """`pt-br` → `pt`, `BR`: as Babel spells language, script and territory."""
    words = (tag or FALLBACK).replace("-", "_").split("_")
    return [words[0].lower(), *(_spelled(word) for word in words[1:])]


def _spelled(word: str) -> str:
    return word.title() if len(word) == len("Latn") else word.upper()
