"""Amounts: whole minor units and a currency, never a float.

Exponents are those of ISO 4217 list one of 1 January 2026; units of account without minor units
(gold, SDR, test codes) are no currencies here, because nobody can be charged in them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_ODD_EXPONENTS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
_TWO_DECIMALS = (
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD "
    "CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS "
    "GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD "
    "LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB "
    "PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP "
    "SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW "
    "ZWG"
)

EXPONENTS: Mapping[str, int] = dict.fromkeys(_TWO_DECIMALS.split(), 2) | {
    code: exponent for exponent, codes in _ODD_EXPONENTS.items() for code in codes.split()
}
"""Digits after the decimal point of every active currency: JPY 0, USD 2, KWD 3, CLF 4."""


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in minor units of an ISO 4217 currency; negative amounts are credits."""

    amount_minor: int
    currency: str


def is_currency(code: str) -> bool:
    """Whether `code` is an active ISO 4217 currency, spelled in capitals."""
    return code in EXPONENTS


def exponent(code: str) -> int:
    """Digits after the decimal point. Raises `KeyError` for a code that is no currency."""
    return EXPONENTS[code]


def divide_half_even(numerator: int, denominator: int) -> int:
    """The quotient, rounded to the nearest integer and from the middle to the even one.

    `denominator` is positive. Exact for integers of any size.
    """
    assert denominator > 0, denominator
    quotient, remainder = divmod(numerator, denominator)
    twice = 2 * remainder
    if twice > denominator or (twice == denominator and quotient % 2):
        return quotient + 1
    return quotient


def allocate(amount_minor: int, *, weights: Sequence[int]) -> list[int]:
    """Split an amount by weights so that the parts add up to it exactly (largest remainder).

    No part is further than one unit from its exact share; equal remainders go to the earlier part; a
    negative amount is split as its positive twin is. Weights are not negative and not all zero.
    """
    total = sum(weights)
    assert total > 0, weights
    assert min(weights) >= 0, weights
    sign, size = (-1, -amount_minor) if amount_minor < 0 else (1, amount_minor)
    parts = [size * weight // total for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: -(size * weights[i] % total))
    for i in by_remainder[: size - sum(parts)]:
        parts[i] += 1
    return [sign * part for part in parts]


def format_money(money: Money) -> str:
    """For logs, mails and reports in plain English: `12.34 USD`, `500 JPY`, `-0.05 USD`."""
    digits = exponent(money.currency)
    sign = "-" if money.amount_minor < 0 else ""
    if digits == 0:
        return f"{sign}{abs(money.amount_minor)} {money.currency}"
    units, rest = divmod(abs(money.amount_minor), 10**digits)
    return f"{sign}{units}.{rest:0{digits}d} {money.currency}"
