"""Unpaid invoices to decide about: what was tried, and what is expected to follow."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from billing.dunning import (
    Decision,
    DunningPolicy,
    ExhaustedAction,
    GiveUp,
    InvoiceHistory,
    PastAttempt,
    RetryAt,
    WaitForCustomer,
    decide,
)
from billing.dunning_terms import AttemptSource
from billing.outcomes import DeclineClass

T0 = datetime(2026, 3, 2, 10, tzinfo=UTC)
DEFAULT = DunningPolicy()
SHORT = DunningPolicy(max_retries=2, window_days=7, schedule=(1, 3, 5))

Row = tuple[DunningPolicy, InvoiceHistory, datetime, Decision]


def day(days: int, hours: int = 0, minutes: int = 0) -> datetime:
    return T0 + timedelta(days=days, hours=hours, minutes=minutes)


def tried(
    source: str,
    decline_class: str | None,
    at: datetime,
    *,
    method: str = "pm_1",
    resolved_at: datetime | None = None,
) -> PastAttempt:
    """A declined attempt, or without a class one that was ended at the gateway."""
    return PastAttempt(
        ordinal=0,
        source=AttemptSource(source),
        state="void" if decline_class is None else "declined",
        decline_class=None if decline_class is None else DeclineClass(decline_class),
        payment_method_id=method,
        claimed_at=at,
        resolved_at=resolved_at or at,
        gateway_ref="ch_1",
    )


def after(*attempts: PastAttempt, method: str | None = "pm_1") -> InvoiceHistory:
    """An invoice with these attempts, in this order; `method` would be charged next."""
    numbered = [replace(attempt, ordinal=n) for n, attempt in enumerate(attempts, 1)]
    return InvoiceHistory(None, numbered, "UTC", method)


def retry(at: datetime, source: str = "retry") -> RetryAt:
    return RetryAt(at, AttemptSource(source), "")


def wait(until: datetime) -> WaitForCustomer:
    return WaitForCustomer(until, "")


def give_up(action: str = "cancel") -> GiveUp:
    return GiveUp(ExhaustedAction(action), "")


def check(
    policy: DunningPolicy, history: InvoiceHistory, now: datetime, expected: Decision
) -> None:
    assert replace(decide(policy, history, now=now), reason="") == expected


SOFT = tried("renewal", "soft", T0)
TECHNICAL = tried("renewal", "technical", T0)
HARD = tried("renewal", "hard", T0)
DAY_1 = tried("retry", "soft", day(1))
DAY_3 = tried("retry", "soft", day(3))
