"""Card numbers where none may be: found and masked before anything is written or logged.

A card number here is 13 to 19 digits, one space or hyphen allowed between any two, that begins with
2 to 6 and passes the Luhn check. It must begin and end at the edge of a run of digits, so that a part
of a longer number is not taken for one.
"""

import re
from collections.abc import Iterator

_SHORTEST, _LONGEST = 13, 19
_KEPT_FIRST, _KEPT_LAST = 6, 4
_DIGITS = re.compile(r"\d(?:[ -]?\d){12,}")
_GROUP = re.compile(r"\d+")
# Twice the value of each digit, its own digits added up.
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def find_card_number(text: str) -> bool:
    """Whether `text` holds a card number."""
    return next(_card_numbers(text), None) is not None


def mask_card_numbers(text: str) -> str:
    """`text` with all but the first 6 and last 4 digits of each card number turned to `*`.

    What comes back holds no card number.
    """
    while positions := [p for card in _card_numbers(text) for p in card[_KEPT_FIRST:-_KEPT_LAST]]:
        letters = list(text)
        for position in positions:
            letters[position] = "*"
        text = "".join(letters)
    return text


def _card_numbers(text: str) -> Iterator[list[int]]:
    """The positions of the digits of each card number; they may overlap."""
    for run in _DIGITS.finditer(text):
        groups = [group.span() for group in _GROUP.finditer(text, run.start(), run.end())]
        for first, (start, _) in enumerate(groups):
            if 2 <= int(text[start]) <= 6:
                yield from _card_numbers_from(text, groups[first : first + _LONGEST])


def _card_numbers_from(text: str, groups: list[tuple[int, int]]) -> Iterator[list[int]]:
    """Those that begin with the first group and end with one of the others.

    Luhn (ISO/IEC 7812-1, annex B): from the right every second digit is doubled. Both sums are kept
    while reading from the left: with the last digit plain, and with it doubled.
    """
    length = plain = doubled = 0
    for last, (start, end) in enumerate(groups):
        length += end - start
        if length > _LONGEST:
            return
        for digit in map(int, text[start:end]):
            plain, doubled = doubled + digit, plain + _DOUBLED[digit]
        if length >= _SHORTEST and plain % 10 == 0:
            yield [position for group in groups[: last + 1] for position in range(*group)]
