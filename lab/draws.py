"""Reproducible chance: every draw is a hash of a key, a slot and an index, never a generator's state.

A world asked twice gives the same answer, whoever asks and in whatever order, so that two policies
meet the same customers and a restarted server the same faults. The mixer is splitmix64's finaliser
(Steele, Lea, Flood 2014) over `key + slot·a + index·b`; keys come from BLAKE2b.
"""

import math
from collections.abc import Sequence
from hashlib import blake2b
from statistics import NormalDist

_MASK = 0xFFFF_FFFF_FFFF_FFFF
_SLOT_STEP = 0xD134_2543_DE82_EF95
_INDEX_STEP = 0x9E37_79B9_7F4A_7C15
_inverse_normal = NormalDist().inv_cdf


def stream_key(*parts: str | int) -> int:
    """64 bits that depend on every part and on their order."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def uniform(key: int, slot: int, index: int = 0) -> float:
    """One number inside (0, 1), never 0 and never 1."""
    x = (key + slot * _SLOT_STEP + index * _INDEX_STEP) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58_476D_1CE4_E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D0_49BB_1331_11EB) & _MASK
    return (((x ^ (x >> 31)) >> 12) + 0.5) * 2.0**-52


def normal(key: int, slot: int, index: int = 0) -> float:
    """One standard normal number."""
    return _inverse_normal(uniform(key, slot, index))


def exponential(mean: float, key: int, slot: int, index: int = 0) -> float:
    """One waiting time; an infinite mean never ends."""
    return -mean * math.log(uniform(key, slot, index))


def pick(weights: Sequence[float], u: float) -> int:
    """The index that `u` in (0, 1) falls on; rounding of the weights' sum goes to the last."""
    for index, weight in enumerate(weights[:-1]):
        u -= weight
        if u < 0:
            return index
    return len(weights) - 1
