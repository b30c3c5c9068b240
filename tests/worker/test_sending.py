"""The network tries of one send: at most two, one key, and never after the deadline."""

from collections.abc import Sequence
from typing import Any

import pytest

from billing.outcomes import Approved, ChargeOutcome, NotSent, Unknown
from worker import sending
from worker.clock import machine_now


class Answers:
    """A gateway that gives these answers in order, and notes how often it was asked."""

    name = "fake"

    def __init__(self, *answers: ChargeOutcome) -> None:
        self.answers = list(answers)

    async def charge(self, *, request: bytes, key: str) -> ChargeOutcome:
        return self.answers.pop(0)


YES = Approved("ch_1", 4900, "USD")
LOST = Unknown("no answer in time")


@pytest.mark.parametrize(
    ("answers", "expected", "left"),
    [
        # A network error is repaired once with the same key.
        ([LOST, YES], YES, 0),
        ([NotSent("refused"), YES], YES, 0),
        ([LOST, LOST, YES], LOST, 1),
        # What the first try may have done is not undone by a second that never left.
        ([LOST, NotSent("refused")], LOST, 0),
        # An answer is an answer; who asked for rest gets it.
        ([Unknown("500", answered=True), YES], Unknown("500", answered=True), 1),
        ([Unknown("429", retry_after_seconds=1), YES], Unknown("429", retry_after_seconds=1), 1),
        ([YES, LOST], YES, 1),
    ],
)
async def test_one_try_or_two(
    answers: Sequence[ChargeOutcome], expected: ChargeOutcome, left: int
) -> None:
    """At most two tries under one key, and no outcome is made better than it is."""
    gateway: Any = Answers(*answers)
    outcome = await sending.send_once_or_twice(
        gateway, request=b"{}", key="k", deadline=machine_now() + 20
    )
    assert outcome == expected
    assert len(gateway.answers) == left


async def test_nothing_leaves_near_the_end_of_the_send_window() -> None:
    """A process that was frozen after its commit finds its deadline over, and leaves it unsent."""
    gateway: Any = Answers(YES)
    outcome = await sending.send_once_or_twice(
        gateway, request=b"{}", key="k", deadline=machine_now() + 8
    )
    assert outcome == NotSent("the send window is over")
    assert gateway.answers == [YES]
