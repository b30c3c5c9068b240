"""From the bytes of a platform message to a typed event, or to the reason why it is none.

Nothing is raised for what a sender did: `parse` is total. Size and depth are looked at before the JSON
is read, so that no message costs more than its bytes. Source: docs/contract/platform-events.md,
paragraph "Rejected".
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from billing.checks import mask_card_numbers
from billing.events.catalog import BUILT, EventType
from billing.events.fields import MAX_ID, MAX_SOURCE, Id, Instant, Source
from billing.events.payloads import Payload
from billing.events.screening import (
    BODY,
    MAX_BYTES,
    MAX_DEPTH,
    MAX_STRING,
    Fault,
    depth_of,
    dotted,
    first_fault,
    is_storable,
    mask_body,
    one_line,
    read_object,
    shown,
)

AHEAD = timedelta(minutes=10)
"""A `time` further ahead than this is a wrong clock, and would supersede all that comes after it."""

_READABLE_BYTES = 4 * 1024 * 1024
_READABLE_DEPTH = 200
"""Up to these bounds a message that is refused is still read, to tell whose it is."""


@dataclass(frozen=True, slots=True)
class PlatformEvent:
    """A message that keeps to the contract. `occurred_at` is its `time` in UTC."""

    event_id: str
    source: str
    type: EventType
    occurred_at: datetime
    payload: Payload
    body: bytes


@dataclass(frozen=True, slots=True)
class Rejection:
    """A message that breaks the contract. What its body does not tell is empty; no card number is left."""

    event_id: str
    source: str
    type: str
    field: str
    error: str
    body: bytes


class _Envelope(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")

    type: str
    specversion: Literal["1.0"]
    id: Id
    source: Source
    time: Instant
    data: dict[str, Any]


def parse(body: bytes, *, now: datetime, clock_is_real: bool) -> PlatformEvent | Rejection:
    """The event in `body`. Under the test clock (`clock_is_real` false) no `time` is too far ahead."""
    tree, fault = _read(body)
    fault = fault or first_fault(tree)
    if fault is None:
        event = _event(tree, body)
        if isinstance(event, PlatformEvent):
            if not clock_is_real or event.occurred_at <= now + AHEAD:
                return event
            event = Fault("time", f"time is {shown(tree['time'])}: should not be in the future")
        fault = event
    return _rejection(body, tree, fault)


def _read(body: bytes) -> tuple[Any, Fault | None]:
    """The JSON tree as far as it can be read, and what is wrong with the message as a whole."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None, Fault(BODY, "body is not UTF-8: should be JSON in UTF-8")
    fault = None
    if len(body) > MAX_BYTES:
        fault = Fault(BODY, f"body has {len(body)} bytes: should have at most {MAX_BYTES}")
        if len(body) > _READABLE_BYTES:
            return None, fault
    depth = depth_of(text)
    if depth > MAX_DEPTH:
        fault = fault or Fault(BODY, f"body has {depth} levels: should have at most {MAX_DEPTH}")
        if depth > _READABLE_DEPTH:
            return None, fault
    try:
        return json.loads(text, object_pairs_hook=read_object), fault
    except (ValueError, RecursionError) as error:
        reason = one_line(str(error), 100)
        return None, fault or Fault(BODY, f"body is not JSON ({reason}): should be a JSON object")


def _event(tree: Any, body: bytes) -> PlatformEvent | Fault:
    if not isinstance(tree, dict):
        return Fault(BODY, f"body is {shown(tree)}: should be a JSON object")
    try:
        envelope = _Envelope.model_validate(tree)
    except ValidationError as error:
        return _first_error(error, ())
    try:
        kind = EventType(envelope.type)
    except ValueError:
        return Fault("type", f"type is {shown(envelope.type)}: should be one of the contract")
    if kind not in BUILT:
        return Fault("type", f"type is {shown(envelope.type)}: not built in this version")
    try:
        payload = BUILT[kind].model_validate(envelope.data)
    except ValidationError as error:
        return _first_error(error, ("data",))
    at = envelope.time.astimezone(UTC)
    return PlatformEvent(envelope.id, envelope.source, kind, at, cast(Payload, payload), body)


def _first_error(error: ValidationError, above: tuple[str, ...]) -> Fault:
    first = error.errors(include_url=False)[0]
    context = first.get("ctx", {})
    path = (*above, *map(str, first["loc"]))
    found = first["input"]
    if name := context.get("field"):
        path, found = (*path, name), _told(found, name)
    field = dotted(path)
    if first["type"] == "not_built":
        return Fault(field, f"{field} is {shown(found)}: not built in this version")
    if first["type"] == "missing" or (name and found is None):
        return Fault(field, f"{field} is missing: should be {_expectation(first, context)}")
    return Fault(field, f"{field} is {shown(found)}: should be {_expectation(first, context)}")


def _told(model: Any, name: str) -> Any:
    """A field of a validated model or of the raw object, by the name it was told under."""
    raw = model if isinstance(model, dict) else model.model_dump(by_alias=True)
    return raw.get(name)


_EXPECTATIONS: Mapping[str, str] = {
    "missing": "there",
    "expected": "{expectation}",
    "int_type": "a whole number",
    "string_type": "a string",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "literal_error": "{expected}",
    "greater_than_equal": "{ge} or more",
    "less_than_equal": "{le} or less",
    "string_too_short": "at least {min_length} character long",
    "string_too_long": "at most {max_length} characters long",
}


def _expectation(error: ErrorDetails, context: Mapping[str, Any]) -> str:
    template = _EXPECTATIONS.get(error["type"])
    return one_line(error["msg"] if template is None else template.format_map(context), 200)


def _rejection(body: bytes, tree: Any, fault: Fault) -> Rejection:
    told = tree if isinstance(tree, dict) else {}
    return Rejection(
        event_id=_column(told.get("id"), MAX_ID),
        source=mask_card_numbers(_column(told.get("source"), MAX_SOURCE)),
        type=one_line(_column(told.get("type"), MAX_STRING), 128),
        field=fault.field,
        error=one_line(fault.error, 500),
        body=mask_body(body, tree),
    )


def _column(value: Any, most: int) -> str:
    """A string that can stand in a column and in an index, or the empty one."""
    if isinstance(value, str) and len(value) <= most and is_storable(value):
        return value
    return ""
