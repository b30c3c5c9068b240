import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.money import (
    EXPONENTS,
    Money,
    allocate,
    divide_half_even,
    exponent,
    format_money,
    is_currency,
)


@pytest.mark.parametrize(
    ("code", "digits"),
    [
        ("USD", 2),
        ("JPY", 0),  # no minor unit
        ("KWD", 3),
        ("CLF", 4),
        ("XCG", 2),  # the Caribbean guilder, since 2025
        ("ISK", 0),  # was 2 until 2007
    ],
)
def test_exponents_are_those_of_iso_4217(code: str, digits: int) -> None:
    """Amounts are read with the currency's own number of decimals."""
    assert exponent(code) == digits


@pytest.mark.parametrize(
    "code",
    [
        "usd",  # codes are capitals
        "",
        "XAU",  # gold is no money to charge
        "XXX",
        "HRK",  # withdrawn: Croatia, 2023
        "BGN",  # withdrawn: Bulgaria, 2026
        "ANG",  # replaced by XCG
        "US",
    ],
)
def test_what_is_no_active_currency_is_refused(code: str) -> None:
    """A code that nobody can be charged in is not a currency."""
    assert not is_currency(code)
    with pytest.raises(KeyError):
        exponent(code)


def test_every_currency_is_there_once() -> None:
    """The table holds the 165 currencies of the list of January 2026, all spelled alike."""
    assert len(EXPONENTS) == 165
    assert all(is_currency(code) and code.isupper() and len(code) == 3 for code in EXPONENTS)


@pytest.mark.parametrize(
    ("numerator", "denominator", "expected"),
    [
        (10, 5, 2),
        (7, 2, 4),  # 3.5, the even one is above
        (5, 2, 2),  # 2.5, the even one is below
        (-5, 2, -2),
        (-7, 2, -4),
        (8, 3, 3),  # 2.67
        (7, 3, 2),  # 2.33
        (0, 9, 0),
        (10**30 + 1, 2, 5 * 10**29),  # exact where a float would not be
    ],
)
def test_divide_half_even(numerator: int, denominator: int, expected: int) -> None:
    """A quotient is rounded to the nearest integer, from the middle to the even one."""
    assert divide_half_even(numerator, denominator) == expected


@given(st.integers(-(10**15), 10**15), st.integers(1, 10**6))
def test_rounding_never_moves_more_than_half_a_unit(numerator: int, denominator: int) -> None:
    """The rounded quotient is within half a unit, and symmetrical in the sign."""
    quotient = divide_half_even(numerator, denominator)
    assert 2 * abs(quotient * denominator - numerator) <= denominator
    assert divide_half_even(-numerator, denominator) == -quotient


@pytest.mark.parametrize(
    ("amount", "weights", "expected"),
    [
        (100, [1, 1, 1], [34, 33, 33]),  # the rest goes to the earliest of equals
        (100, [1, 2], [33, 67]),  # the larger remainder gets it
        (-100, [1, 1, 1], [-34, -33, -33]),
        (5, [0, 1], [0, 5]),  # nothing for no weight
        (2, [1, 1, 1], [1, 1, 0]),
        (0, [3, 4], [0, 0]),
    ],
)
def test_allocate(amount: int, weights: list[int], expected: list[int]) -> None:
    """An amount is split by weights without losing a unit."""
    assert allocate(amount, weights=weights) == expected


@given(
    st.integers(-(10**12), 10**12),
    st.lists(st.integers(0, 10**6), min_size=1, max_size=40).filter(any),
)
def test_allocated_parts_add_up_and_are_fair(amount: int, weights: list[int]) -> None:
    """Parts sum to the amount exactly, and each is within one unit of its exact share."""
    parts = allocate(amount, weights=weights)
    assert sum(parts) == amount
    total = sum(weights)
    pairs = zip(parts, weights, strict=True)
    assert all(abs(part * total - amount * weight) < total for part, weight in pairs)


@pytest.mark.parametrize("weights", [[], [0, 0], [2, -1]])
def test_weights_that_cannot_split_are_a_bug(weights: list[int]) -> None:
    """Weights are not negative and not all zero."""
    with pytest.raises(AssertionError):
        allocate(1, weights=weights)


@pytest.mark.parametrize(
    ("money", "expected"),
    [
        (Money(1234, "USD"), "12.34 USD"),
        (Money(5, "EUR"), "0.05 EUR"),
        (Money(-5, "EUR"), "-0.05 EUR"),
        (Money(500, "JPY"), "500 JPY"),
        (Money(-500, "JPY"), "-500 JPY"),
        (Money(1, "KWD"), "0.001 KWD"),
        (Money(12345, "CLF"), "1.2345 CLF"),
    ],
)
def test_format_money(money: Money, expected: str) -> None:
    """An amount is written with the decimals of its currency."""
    assert format_money(money) == expected
