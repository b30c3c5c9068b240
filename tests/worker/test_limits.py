"""The chain of time limits is asserted with the settings of each process."""

from typing import Any

import pytest

from worker.errors import SettingsError
from worker.limit_chain import check_limits
from worker.settings import isolated_settings


def gateway(**changes: object) -> dict[str, Any]:
    one = {"adapter": "sandbox", "base_url": "http://h", "api_key": "k"} | changes
    return {"gateways": {"main": one}}


def test_defaults_hold() -> None:
    """The defaults, a default gateway included, satisfy the chain."""
    check_limits(isolated_settings(**gateway()))


# Each row breaks one link: the settings, and the line that names it.
BROKEN = [
    (
        gateway(try_seconds=10),
        (
            "RENEWD_GATEWAYS: main.try_seconds x 2 tries is 20 s: "
            "should be less than the send window, which is 20 s"
        ),
    ),
    (
        {"lease_seconds": 30},
        "the time to stop is 30 s: should be less than RENEWD_LEASE_SECONDS, which is 30 s",
    ),
    (
        {"unsettled_seconds": 40},
        "RENEWD_LEASE_SECONDS is 40 s: should be less than RENEWD_UNSETTLED_SECONDS, which is 40 s",
    ),
    (
        {"unsettled_seconds": 60},
        (
            "RENEWD_UNSETTLED_SECONDS is 60 s: "
            "should be less than the takeover of orphans, which is 60 s"
        ),
    ),
    (
        gateway(key_lifetime_hours=4),
        (
            "30 takeovers of an orphan is 1800 s: "
            "should be less than RENEWD_GATEWAYS: main.key_lifetime_hours - 4 h, which is 0 s"
        ),
    ),
    (
        {"statement_timeout_seconds": 25},
        (
            "RENEWD_STATEMENT_TIMEOUT_SECONDS is 25 s: "
            "should be less than the settle deadline, which is 25 s"
        ),
    ),
    (
        {"worker_threads": 11},
        "RENEWD_DB_POOL_SIZE is 10: should be at least RENEWD_WORKER_THREADS, which is 11",
    ),
]


@pytest.mark.parametrize(("values", "line"), BROKEN)
def test_broken_link_is_named(values: dict[str, Any], line: str) -> None:
    """Settings that break one link are refused with one line that names both sides."""
    with pytest.raises(SettingsError) as raised:
        check_limits(isolated_settings(**values))
    assert str(raised.value) == line
