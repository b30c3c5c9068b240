"""The chain of time limits (worker/limits.py), asserted at start-up with the settings given."""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from worker.errors import SettingsError
from worker.limits import (
    ACTOR_TIME_LIMIT_SECONDS,
    KEY_LIFETIME_FACTOR,
    KEY_MARGIN_HOURS,
    NETWORK_TRIES,
    ORPHAN_SECONDS,
    SEND_WINDOW_SECONDS,
    SETTLE_DEADLINE_SECONDS,
    STOP_SECONDS,
)
from worker.settings import GatewaySettings, Settings


class Limit(NamedTuple):
    """One link of the chain: what to call it in an error, and its value in seconds."""

    name: str
    seconds: float


def check_limits(settings: Settings) -> None:
    """Assert the chain with these settings.

    Raises `SettingsError` with one line that names the first two links out of order.
    """
    chain = [
        Limit("the send window", SEND_WINDOW_SECONDS),
        Limit("the settle deadline", SETTLE_DEADLINE_SECONDS),
        Limit("the time limit of an actor", ACTOR_TIME_LIMIT_SECONDS),
        Limit("the time to stop", STOP_SECONDS),
        Limit("RENEWD_LEASE_SECONDS", settings.lease_seconds),
        Limit("RENEWD_UNSETTLED_SECONDS", settings.unsettled_seconds),
        Limit("the takeover of orphans", ORPHAN_SECONDS),
    ]
    _assert_rising(chain)
    for name, gateway in settings.gateways.items():
        _assert_rising([_tries(name, gateway), chain[0]])
        _assert_rising([_takeovers(), _usable_key_life(name, gateway)])
    _assert_rising(list(_statement_links(settings)))
    _check_pool(settings)


def _assert_rising(chain: list[Limit]) -> None:
    for shorter, longer in pairwise(chain):
        if not shorter.seconds < longer.seconds:
            line = (
                f"{shorter.name} is {shorter.seconds:g} s: "
                f"should be less than {longer.name}, which is {longer.seconds:g} s"
            )
            raise SettingsError(line)


def _tries(name: str, gateway: GatewaySettings) -> Limit:
    seconds = NETWORK_TRIES * gateway.try_seconds
    return Limit(f"RENEWD_GATEWAYS: {name}.try_seconds x {NETWORK_TRIES} tries", seconds)


def _takeovers() -> Limit:
    return Limit(
        f"{KEY_LIFETIME_FACTOR} takeovers of an orphan", KEY_LIFETIME_FACTOR * ORPHAN_SECONDS
    )


def _usable_key_life(name: str, gateway: GatewaySettings) -> Limit:
    hours = gateway.key_lifetime_hours - KEY_MARGIN_HOURS
    label = f"RENEWD_GATEWAYS: {name}.key_lifetime_hours - {KEY_MARGIN_HOURS} h"
    return Limit(label, hours * 3600)


def _statement_links(settings: Settings) -> Iterator[Limit]:
    yield Limit("RENEWD_STATEMENT_TIMEOUT_SECONDS", settings.statement_timeout_seconds)
    yield Limit("the settle deadline", SETTLE_DEADLINE_SECONDS)


def _check_pool(settings: Settings) -> None:
    # A batch holds one connection at a time; fewer than threads would make batches wait inside
    # deadlines.
    if settings.db_pool_size < settings.worker_threads:
        line = (
            f"RENEWD_DB_POOL_SIZE is {settings.db_pool_size}: should be at least "
            f"RENEWD_WORKER_THREADS, which is {settings.worker_threads}"
        )
        raise SettingsError(line)
