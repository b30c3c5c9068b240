"""What is kept of rejected messages, and that any bytes at all have an answer."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.checks import find_card_number
from billing.events import PlatformEvent, Rejection, parse
from tests import platform_events as shop
from tests.platform_cases import CARD, TAKEN
from tests.platform_events import NOW


def read(body: bytes) -> Any:
    return parse(body, now=NOW, clock_is_real=True)


MASKS: list[tuple[bytes, bytes]] = [
    # Only free text is masked: the id with the same digits stays.
    (
        b'{"id": "4242424242424242", "data": {"name": "4242424242424242"}}',
        b'{"id": "4242424242424242", "data": {"name": "424242******4242"}}',
    ),
    (
        b'{"data": {"name": "pan 4242424242424242"} }',
        b'{"data": {"name": "pan 424242******4242"} }',
    ),
    # A number, and digits written as escapes, cannot be masked in place.
    (b'{"extra": 4242424242424242}', b'{"extra": "424242******4242"}'),
    (b'{"a": "424242424242424\\u0032"}', b'{"a": "424242******4242"}'),
    # Not JSON, not UTF-8, UTF-16, and an object with a name twice: masked as text.
    (b"4242 4242 4242 4242 <", b"4242 42** **** 4242 <"),
    (b"\xff4242424242424242", b"\xff424242******4242"),
    ("4242424242424242".encode("utf-16-be"), b"424242******4242"),
    (b'{"n": "4242424242424242", "n": 1}', b'{"n": "424242******4242", "n": 1}'),
    # Nothing to mask: the bytes stay as they came.
    (b"{ \xff", b"{ \xff"),
]


@pytest.mark.parametrize(("body", "kept"), MASKS)
def test_card_numbers_are_masked_in_what_is_kept(body: bytes, kept: bytes) -> None:
    """A rejected message keeps its bytes, but for the middle digits of card numbers."""
    rejection = read(body)
    assert isinstance(rejection, Rejection)
    assert rejection.body == kept


def test_an_escaped_card_number_is_found() -> None:
    """Escapes do not hide digits."""
    body = shop.customer(name="x").replace(b'"x"', b'"\\u0034242424242424242"')
    rejection = read(body)
    assert rejection.field == "data.name"
    assert json.loads(rejection.body)["data"]["name"] == "424242******4242"


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | st.sampled_from([CARD, "platform.customer.upserted", "1.0", NOW.isoformat()]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.binary(max_size=200) | json_values.map(lambda tree: json.dumps(tree).encode()))
def test_any_bytes_are_answered(body: bytes) -> None:
    """Whatever comes, the answer is an event or a rejection without a card number in it."""
    answer = read(body)
    if isinstance(answer, Rejection):
        assert not find_card_number(answer.body.decode("latin-1"))
        assert answer.error.isprintable()


@given(
    st.sampled_from(TAKEN),
    st.dictionaries(
        st.sampled_from(["id", "type", "source", "time", "data", "specversion", "subject"]),
        json_values,
        min_size=1,
        max_size=2,
    ),
)
def test_any_envelope_is_answered(body: bytes, changes: dict[str, Any]) -> None:
    """A known message with wrong values anywhere in its envelope is answered as well."""
    answer = read(json.dumps(json.loads(body) | changes).encode())
    assert isinstance(answer, PlatformEvent | Rejection)


@given(st.sampled_from(TAKEN), st.data())
def test_any_field_of_any_payload_is_answered(body: bytes, data: st.DataObject) -> None:
    """Every field of every type may be anything: a rejection then names a path that was sent."""
    message = json.loads(body)
    name = data.draw(st.sampled_from(sorted(message["data"])))
    message["data"][name] = data.draw(json_values)
    answer = read(json.dumps(message).encode())
    if isinstance(answer, Rejection):
        assert answer.field == "body" or answer.field.startswith("data")
