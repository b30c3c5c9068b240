from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.calendar import ChargingWindow
from billing.dunning import DunningPolicy, ExhaustedAction, dunning_window_ends_at, grace_ends_at

T0 = datetime(2026, 3, 2, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("contract", "expected"),
    [
        ({}, DunningPolicy()),
        ({"max_retries": 0}, DunningPolicy(max_retries=0)),
        ({"schedule": [1, 2]}, DunningPolicy(schedule=(1, 2))),
        # Not built yet: the ladder stands in, and the wish is kept.
        ({"schedule": "learned"}, DunningPolicy(learned=True)),
        ({"on_exhausted": "past_due"}, DunningPolicy(on_exhausted=ExhaustedAction.PAST_DUE)),
        ({"new_card_retries_now": False}, DunningPolicy(new_card_retries_now=False)),
        (
            {"charging_window": {"from": "09:00", "to": "11:30"}},
            DunningPolicy(charging_window=ChargingWindow(time(9), time(11, 30))),
        ),
        # Fields told as null have their defaults.
        ({"grace_days": None, "schedule": None, "charging_window": None}, DunningPolicy()),
        # Fields of later versions do no harm.
        ({"surprise": 1, "window_days": 7}, DunningPolicy(window_days=7)),
    ],
)
def test_a_policy_is_read_from_the_contract(
    contract: dict[str, Any], expected: DunningPolicy
) -> None:
    """What a plan's retry_policy leaves out has the contract's default."""
    assert DunningPolicy.from_contract(contract) == expected


def test_the_defaults_are_the_contracts() -> None:
    """A plan that says nothing is collected as the contract promises."""
    assert DunningPolicy().to_contract() == {
        "max_retries": 8,
        "window_days": 28,
        "schedule": [1, 3, 5, 8, 11, 15, 20, 26],
        "on_exhausted": "cancel",
        "billing_date_follows_recovery": False,
        "new_card_retries_now": True,
        "action_days": 3,
    }


policies = st.builds(
    DunningPolicy,
    max_retries=st.integers(0, 20),
    window_days=st.integers(1, 90),
    schedule=st.lists(st.integers(1, 90), min_size=1, max_size=20).map(tuple),
    on_exhausted=st.sampled_from(ExhaustedAction),
    grace_days=st.none() | st.integers(0, 90),
    billing_date_follows_recovery=st.booleans(),
    new_card_retries_now=st.booleans(),
    action_days=st.integers(1, 10),
    charging_window=st.none() | st.just(ChargingWindow(time(9), time(11, 30))),
)


@given(policies)
def test_a_policy_survives_the_contract(policy: DunningPolicy) -> None:
    """Written as the contract's retry_policy and read again it is the same."""
    assert DunningPolicy.from_contract(policy.to_contract()) == policy
    learned = replace(DunningPolicy(), learned=True)
    assert DunningPolicy.from_contract(learned.to_contract()) == learned


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (DunningPolicy(), (1, 3, 5, 8, 11, 15, 20, 26)),
        (DunningPolicy(max_retries=3), (1, 3, 5)),
        (DunningPolicy(window_days=9), (1, 3, 5, 8)),
        (DunningPolicy(max_retries=2, window_days=9), (1, 3)),
        (DunningPolicy(window_days=8), (1, 3, 5)),  # the last day is the fresh attempt's
        (DunningPolicy(max_retries=0), ()),
        (DunningPolicy(schedule=(9, 2, 2)), (2, 9)),
    ],
)
def test_the_schedule_is_cut(policy: DunningPolicy, expected: tuple[int, ...]) -> None:
    """The schedule is cut to max_retries and to the window."""
    assert policy.retry_days == expected


@pytest.mark.parametrize(
    ("grace_days", "expected"),
    [
        (None, None),  # as long as the window
        (28, None),
        (40, None),
        (7, T0 + timedelta(days=7)),
        (0, T0),  # access ends with the first decline
    ],
)
def test_grace(grace_days: int | None, expected: datetime | None) -> None:
    """Access ends before dunning does only if the policy says so."""
    assert grace_ends_at(DunningPolicy(grace_days=grace_days), T0) == expected


def test_the_window() -> None:
    """Dunning lasts the policy's days of 24 hours from the first decline."""
    assert dunning_window_ends_at(DunningPolicy(), T0) == T0 + timedelta(days=28)
