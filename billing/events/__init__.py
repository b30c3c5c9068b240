"""Typed platform messages: `parse` makes an event of bytes, or says which field is wrong.

Reading order: `fields` (kinds of fields), `payloads` (one model per type), `catalog` (the types),
`screening` (what no message may hold), `parsing`.
"""

from billing.events.catalog import BUILT, EventType
from billing.events.parsing import PlatformEvent, Rejection, parse
from billing.events.payloads import Payload
from billing.events.screening import Fault, mask_body, one_line, shown

__all__ = [
    "BUILT",
    "EventType",
    "Fault",
    "Payload",
    "PlatformEvent",
    "Rejection",
    "mask_body",
    "one_line",
    "parse",
    "shown",
]
