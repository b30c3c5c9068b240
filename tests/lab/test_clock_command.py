"""What `renewd clock advance` asks before it moves anything."""

from datetime import timedelta
from itertools import pairwise

import pytest

from lab.virtual_time import advance_clock, parse_span, require_sandboxes
from scheduler.store import due
from worker import db
from worker.errors import RenewdError, SettingsError, UsageError
from worker.settings import isolated_settings

DAY = timedelta(days=1)


async def test_one_at_a_time_moves_the_clock(database_url: str) -> None:
    """Whoever comes second is told that somebody else is moving the clock."""
    gateway = {"adapter": "sandbox", "base_url": "http://127.0.0.1:1", "api_key": "k"}
    settings = isolated_settings(
        database_url=database_url,
        amqp_url="amqp://guest:guest@127.0.0.1:1/",
        gateways={"sandbox": gateway},
    )
    first = await db.connect(database_url, application_name="first")
    try:
        assert await due.take_clock(first)
        with pytest.raises(RenewdError, match="somebody else is moving the test clock"):
            await advance_clock(settings, span=DAY)
    finally:
        await first.close()


def test_steps_rise() -> None:
    """Units of a span: minutes, hours, days and weeks."""
    spans = [parse_span(text) for text in ("90m", "36h", "3d", "2w", "520w")]
    assert spans[:4] == [timedelta(minutes=90), timedelta(hours=36), 3 * DAY, 14 * DAY]
    assert all(shorter < longer for shorter, longer in pairwise(spans))


@pytest.mark.parametrize("text", ["", "3", "d", "0d", "-1d", "3 d", "1.5h", "3D", "1y", "521w"])
def test_other_spans_are_refused(text: str) -> None:
    """One line that names the value and what it should be."""
    with pytest.raises(UsageError, match=r"clock advance .*: should be "):
        parse_span(text)


def test_without_a_gateway_nothing_moves() -> None:
    """Settings without a sandbox may belong to real people."""
    with pytest.raises(SettingsError, match="RENEWD_GATEWAYS is missing"):
        require_sandboxes(isolated_settings())
