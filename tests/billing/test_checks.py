import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from billing.checks import find_card_number, mask_card_numbers

thorough = settings(max_examples=300)


def luhn_digit(digits: str) -> str:
    """The digit that makes `digits` pass the Luhn check, by the textbook."""
    total = 0
    for i, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (2 if i % 2 == 0 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    return str(-total % 10)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("4242424242424242", "424242******4242"),
        ("4242 4242 4242 4242", "4242 42** **** 4242"),
        ("4242-4242-4242-4242", "4242-42**-****-4242"),
        ("my card: 5555 5555-5555 4444, thanks", "my card: 5555 55**-**** 4444, thanks"),
        ("378282246310005", "378282*****0005"),  # American Express, 15 digits
        ("6011111111111117", "601111******1117"),  # Discover
        ("2223003122003222", "222300******3222"),  # Mastercard's newer range
        ("4222222222222", "422222***2222"),  # 13 digits
        ("tok4242424242424242x", "tok424242******4242x"),  # letters around it
        # Other digits before or after it, a group apart.
        ("12 4242424242424242", "12 424242******4242"),
        ("4242424242424242 123", "424242******4242 123"),
        ("4242424242424242-12/28", "424242******4242-12/28"),
        # Two of them.
        ("4242424242424242,5555555555554444", "424242******4242,555555******4444"),
    ],
)
def test_card_numbers_are_found_and_masked(text: str, masked: str) -> None:
    """First six and last four digits stay, and the text around them."""
    assert find_card_number(text)
    assert mask_card_numbers(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Pottery for beginners",
        "4242424242424241",  # fails Luhn
        "424242424242",  # 12 digits
        "42424242424242424242",  # 20 digits
        "0000000000000000",  # begins with 0
        "1234567890123452",  # begins with 1
        "7992739871300007",  # begins with 7
        "4242  4242  4242  4242",  # two spaces are no separator
        "4242.4242.4242.4242",
        "1774137600000000",  # microseconds since 1970 begin with 1
        "2026-11-22T10:00:00Z",
        "+49 30 1234567",
    ],
)
def test_other_digits_are_left_alone(text: str) -> None:
    """What is no card number comes through unchanged."""
    assert not find_card_number(text)
    assert mask_card_numbers(text) == text


@thorough
@given(
    st.from_regex(r"[2-6][0-9]{11,17}", fullmatch=True),
    st.lists(st.sampled_from(["", "", " ", "-"]), min_size=18, max_size=18),
    st.sampled_from(["", "card ", "x", "(", "9."]),
)
def test_any_card_number_is_found_however_it_is_grouped(
    body: str, separators: list[str], before: str
) -> None:
    """Thirteen to nineteen digits that pass Luhn are found with a space or hyphen anywhere."""
    digits = body + luhn_digit(body)
    written = digits[0] + "".join(
        separator + digit for separator, digit in zip(separators, digits[1:], strict=False)
    )
    assert find_card_number(before + written)
    assert digits not in mask_card_numbers(before + written).replace(" ", "").replace("-", "")


@thorough
@given(st.text("0123456789 -x4", max_size=80))
@example("4242 4242 4242 4242 4242 4242 4242")
@example("411111 1111111111 4242 4242 4242 4")
def test_masked_text_holds_no_card_number(text: str) -> None:
    """After masking nothing is left to find, and nothing but digits was changed."""
    masked = mask_card_numbers(text)
    assert not find_card_number(masked)
    pairs = zip(text, masked, strict=True)
    assert all(new == old or (new == "*" and old.isdigit()) for old, new in pairs)


@pytest.mark.parametrize("text", ["4 " * 128_000, "4" * 256_000, "4242 4242 4242 4242 " * 12_000])
def test_a_quarter_megabyte_of_digits_takes_no_time(text: str) -> None:
    """The largest message is searched and masked in time that grows with its length only."""
    started = time.process_time()
    mask_card_numbers(text)
    assert time.process_time() - started < 5
