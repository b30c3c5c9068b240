"""What no message may hold, whatever its type: looked for in the whole tree before it is read.

Also the masking of card numbers in what is kept of a message: a body goes to the database and a line
to the log only after it went through here.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from billing.checks import find_card_number, mask_card_numbers

MAX_BYTES = 256 * 1024
MAX_DEPTH = 16
MAX_STRING = 10_000
SHOWN = 60
"""Characters of a wrong value that its error shows."""

BODY = "body"
"""The field of an error that is about the message as a whole."""

Path = tuple[str, ...]
"""Names of fields and positions in lists, from the outside in."""

_ID_NAMES = [
    "seller_id",
    "plan_id",
    "product_id",
    "customer_id",
    "payment_method_id",
    "subscription_id",
    "invoice_id",
    "coupon_id",
    "usage_id",
    "purchase_id",
    "refund_id",
    "gateway_ref",
    "idempotency_key",
]
_IDS = frozenset(
    {("id",), ("data", "pass_offer", "plan_id"), *(("data", name) for name in _ID_NAMES)}
)
"""The platform's and the gateways' own strings: they may look like a card number."""

_SUBJECT = ("subject",)

_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NO_BRACKET = re.compile(r"[^\[\]{}]+")
_SURROGATE = re.compile("[\ud800-\udfff]")
_PLAIN_NAME = re.compile(r"[a-z_]{1,64}")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a message: the leaf's path with dots, and one line about it."""

    field: str
    error: str


@dataclass(frozen=True, slots=True)
class NamedTwice:
    """Stands where an object named a field twice: nobody knows which of the two counts."""

    name: str


def shown(value: object) -> str:
    """A value for an error: short, on one line, without card numbers."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = json.dumps(value, default=str, ensure_ascii=False)
    return one_line(text, SHOWN)


def one_line(text: str, length: int) -> str:
    """`text` as one printable line of at most `length` characters, card numbers masked."""
    masked = mask_card_numbers(text)
    if not masked.isprintable():
        masked = "".join(letter if letter.isprintable() else "?" for letter in masked)
    return masked if len(masked) <= length else f"{masked[: length - 1]}…"


def is_storable(text: str) -> bool:
    """Whether Postgres takes the text: no NUL, no unpaired surrogate."""
    return "\x00" not in text and not _SURROGATE.search(text)


def depth_of(text: str) -> int:
    """How deep the brackets outside of strings are nested; linear, and never by recursion."""
    most = text.count("{") + text.count("[")
    if most <= MAX_DEPTH:
        return most
    deepest = depth = 0
    for bracket in _NO_BRACKET.sub("", _STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | NamedTwice:
    """The object of these pairs, for `json.loads`."""
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    names = [name for name, _ in pairs]
    return NamedTwice(next(name for name in names if names.count(name) > 1))


def first_fault(tree: Any) -> Fault | None:
    """The first leaf that no message may hold, in the order of the message."""
    exempt = _exempt(tree)
    return next(
        (fault for path, leaf in leaves(tree) if (fault := _fault(path, leaf, exempt))), None
    )


def leaves(tree: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every leaf with its path, and so every name of a field that is not a plain word."""
    inner: Any
    if isinstance(tree, dict):
        for name, inner in tree.items():
            if not _PLAIN_NAME.fullmatch(name):
                yield (*path, name), name
            yield from leaves(inner, (*path, name))
    elif isinstance(tree, list):
        for position, inner in enumerate(tree):
            yield from leaves(inner, (*path, str(position)))
    else:
        yield path, tree


def dotted(path: Path) -> str:
    """A path as errors name it, `data.price.currency`."""
    return one_line(".".join(path), 200) or BODY


def _exempt(tree: Any) -> frozenset[Path]:
    """Where ids stand, the informative `subject` among them if it repeats one."""
    told = tree.get("data") if isinstance(tree, dict) else None
    if isinstance(told, dict) and tree.get("subject") in [told.get(name) for name in _ID_NAMES]:
        return _IDS | {_SUBJECT}
    return _IDS


def _fault(path: Path, leaf: Any, exempt: frozenset[Path]) -> Fault | None:
    problem = _problem(leaf)
    if problem is None and path not in exempt and _holds_card(leaf):
        problem = f"holds a card number ({shown(leaf)}): should never be sent"
    if problem is None:
        return None
    field = dotted(path)
    return Fault(field, f"{field} {problem}")


def _problem(leaf: Any) -> str | None:
    match leaf:
        case None | bool() | int():
            return None
        case str():
            return _problem_of_text(leaf)
        case NamedTwice(name):
            return f"names {shown(name)} twice: should name it once"
        case _ if math.isfinite(leaf):
            return None
        case _:
            return f"is {leaf}: should be a finite number"


def _problem_of_text(text: str) -> str | None:
    if len(text) > MAX_STRING:
        return f"has {len(text)} characters: should have at most {MAX_STRING}"
    if "\x00" in text:
        return "holds a NUL character: should hold none"
    if not text.isascii() and _SURROGATE.search(text):
        return "holds an unpaired surrogate: should be Unicode text"
    return None


def _holds_card(leaf: Any) -> bool:
    match leaf:
        case None | bool() | NamedTwice():
            return False
        case str():
            return find_card_number(leaf)
        case _:
            return find_card_number(str(leaf))


def mask_body(body: bytes, tree: Any = None) -> bytes:
    """`body` without card numbers in free text; all else stays as it came.

    Give the `tree` if it could be read: then ids stay as they are.
    """
    if tree is not None and not any(isinstance(leaf, NamedTwice) for _, leaf in leaves(tree)):
        return _mask_tree(body, tree)
    return _mask_text(body)


def _mask_text(body: bytes) -> bytes:
    # Digits are the same bytes in every encoding that keeps ASCII; NULs between them are UTF-16's.
    text = body.decode("latin-1")
    masked = mask_card_numbers(text)
    packed = masked.replace("\x00", "")
    if packed != masked and find_card_number(packed):
        masked = mask_card_numbers(packed)
    return body if masked == text else masked.encode("latin-1")


def _mask_tree(body: bytes, tree: Any) -> bytes:
    exempt = _exempt(tree)
    masked = _masked(tree, (), exempt)
    if masked == tree:
        return body
    text = body.decode()
    for path, leaf in leaves(tree):
        if path not in exempt and _holds_card(leaf):
            text = text.replace(str(leaf), mask_card_numbers(str(leaf)))
    try:
        if json.loads(text) == masked:
            return text.encode()
    except ValueError:
        pass  # it was a number, or written with escapes
    return json.dumps(masked).encode()


def _masked(tree: Any, path: Path, exempt: frozenset[Path]) -> Any:
    match tree:
        case dict():
            return {
                mask_card_numbers(name): _masked(inner, (*path, name), exempt)
                for name, inner in tree.items()
            }
        case list():
            return [_masked(inner, (*path, str(n)), exempt) for n, inner in enumerate(tree)]
        case _ if path not in exempt and _holds_card(tree):
            return mask_card_numbers(str(tree))
        case _:
            return tree
