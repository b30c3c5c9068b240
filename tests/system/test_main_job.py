"""The main job on real input: messages in, renewals charged, failures recovered, everybody told."""

from pathlib import Path

import pytest

from tests.system.month import live_through_a_month


@pytest.mark.timeout(600)
def test_ten_thousand_subscriptions_through_a_month(tmp_path: Path, seed: int) -> None:
    """Every subscription is charged once a period to the unit, retried on its days, and told of."""
    size = 10_000
    book, found = live_through_a_month(tmp_path, seed, size=size, disturb=lambda _made: None)
    assert len(found) == size, book.size
