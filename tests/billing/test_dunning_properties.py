"""Whole lives of unpaid invoices, whatever banks answer and however late we are."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from billing.calendar import ChargingWindow, local_time
from billing.dunning import (
    MIN_GAP,
    DunningPolicy,
    GiveUp,
    InvoiceHistory,
    PastAttempt,
    RetryAt,
    WaitForCustomer,
    decide,
    dunning_window_ends_at,
)
from billing.dunning_terms import AttemptSource
from billing.outcomes import DeclineClass

T0 = datetime(2026, 3, 2, 10, tzinfo=UTC)
RETRY, TECHNICAL, FINAL = AttemptSource.RETRY, AttemptSource.TECHNICAL, AttemptSource.FINAL
NEW_CARD, MANUAL = AttemptSource.NEW_CARD, AttemptSource.MANUAL

# The moved fresh attempt: a gap of 20 h, then up to a day and an hour to the window's opening.
LATEST = timedelta(hours=45)

policies = st.builds(
    DunningPolicy,
    max_retries=st.integers(0, 20),
    window_days=st.integers(1, 40),
    schedule=st.lists(st.integers(1, 45), min_size=1, max_size=20, unique=True).map(tuple),
    new_card_retries_now=st.booleans(),
    charging_window=st.none() | st.just(ChargingWindow(time(9), time(11))),
)
# Mostly soft and technical ones: the others end the automatic part.
classes = st.sampled_from([*DeclineClass, *[DeclineClass.SOFT] * 6, DeclineClass.TECHNICAL, None])
delays = st.sampled_from([0, 0, 0, 1, 30, 600, 3000, 20_000]).map(lambda m: timedelta(minutes=m))


@dataclass(frozen=True)
class Turn:
    """What chance does at one step: our lateness, the bank's word, and the customer's doing."""

    late: timedelta
    answer_after: timedelta
    decline_class: DeclineClass | None
    customer: str


turns = st.builds(
    Turn,
    late=delays,
    answer_after=delays,
    decline_class=classes,
    customer=st.sampled_from(["", "", "", "", "", "", "manual", "new_card"]),
)


@dataclass
class Life:
    """An invoice that is never paid, driven by its decisions until it is given up."""

    policy: DunningPolicy
    zone: str
    now: datetime = T0
    method: int = 1
    attempts: list[PastAttempt] = field(default_factory=list)
    decisions: list[tuple[datetime, RetryAt | WaitForCustomer | GiveUp]] = field(
        default_factory=list
    )

    def decide(self) -> RetryAt | WaitForCustomer | GiveUp:
        history = InvoiceHistory(
            first_declined_at=None,
            attempts=self.attempts,
            zone=self.zone,
            payment_method_id=f"pm_{self.method}",
            method_hard_declined=any(
                a.decline_class is DeclineClass.HARD and a.payment_method_id == f"pm_{self.method}"
                for a in self.attempts
            ),
        )
        decision = decide(self.policy, history, now=self.now)
        self.decisions.append((self.now, decision))
        return decision

    def attempt(self, source: AttemptSource, turn: Turn) -> None:
        resolved_at = self.now + turn.answer_after
        self.attempts.append(
            PastAttempt(
                ordinal=len(self.attempts) + 1,
                source=source,
                state="void" if turn.decline_class is None else "declined",
                decline_class=turn.decline_class,
                payment_method_id=f"pm_{self.method}",
                claimed_at=self.now,
                resolved_at=resolved_at,
                gateway_ref="ch_1",
            )
        )
        self.now = resolved_at

    def take(self, turn: Turn) -> bool:
        """One step; False once dunning is over."""
        match self.decide():
            case RetryAt(at):
                self.now = at + turn.late
                # Late: what is due is decided again, as the transaction of the attempt does.
                again = self.decide()
                if isinstance(again, RetryAt) and again.at <= self.now:
                    self.attempt(again.source, turn)
                return not isinstance(again, GiveUp)
            case WaitForCustomer(until, _) if not turn.customer:
                self.now = until + turn.late
            case WaitForCustomer():
                self.method += turn.customer == "new_card"
                self.attempt(AttemptSource(turn.customer), turn)
            case GiveUp():
                return False
        return True


@st.composite
def lives(draw: st.DrawFn) -> Life:
    life = Life(draw(policies), draw(st.sampled_from(["UTC", "America/New_York", "Asia/Kolkata"])))
    # A life has at most twice three attempts a step; the customer of the last turns does nothing.
    for turn in draw(st.lists(turns, min_size=1, max_size=60)):
        if not life.take(turn):
            return life
    quiet = Turn(timedelta(0), timedelta(0), DeclineClass.SOFT, "")
    for _ in range(200):
        if not life.take(quiet):
            return life
    raise AssertionError("this life does not end")


def of(life: Life, *sources: AttemptSource) -> list[PastAttempt]:
    return [attempt for attempt in life.attempts if attempt.source in sources]


def window_end(life: Life) -> datetime:
    resolved_at = life.attempts[0].resolved_at
    assert resolved_at is not None
    return dunning_window_ends_at(life.policy, resolved_at)


thorough = settings(max_examples=250)


@thorough
@given(lives())
def test_every_life_ends_once_the_window_has(life: Life) -> None:
    """An unpaid invoice is given up in the end, and never before its window has ended."""
    now, last = life.decisions[-1]
    assert isinstance(last, GiveUp)
    assert now >= window_end(life)


@thorough
@given(lives())
def test_nothing_is_scheduled_in_the_past_or_beyond_the_window(life: Life) -> None:
    """Retries lie between now and the window's end; the fresh attempt comes shortly after it."""
    for now, decision in life.decisions:
        if not isinstance(decision, RetryAt):
            continue
        assert decision.at >= now
        if decision.source in (RETRY, TECHNICAL):
            assert decision.at < window_end(life)
        if decision.source is FINAL:
            assert window_end(life) <= decision.at <= max(window_end(life), now) + LATEST


@thorough
@given(lives())
def test_budgets_hold(life: Life) -> None:
    """At most max_retries retries, two technical ones a chain, and one fresh attempt."""
    assert len(of(life, RETRY)) <= len(life.policy.retry_days) <= life.policy.max_retries
    assert len(of(life, FINAL)) <= 1
    chains = "".join("t" if a.source is TECHNICAL else "." for a in life.attempts)
    assert "ttt" not in chains
    assert not chains.startswith("t")


@thorough
@given(lives())
def test_no_blind_repetition(life: Life) -> None:
    """Retries follow soft and technical declines only, 20 hours after those that were not technical."""
    for i, attempt in enumerate(life.attempts):
        if attempt.source not in (RETRY, TECHNICAL):
            continue
        card = [a for a in life.attempts[:i] if a.payment_method_id == attempt.payment_method_id]
        before = card[-1] if card else None
        if before is None:  # a new card that the policy does not want tried at once
            continue
        assert before.decline_class in (DeclineClass.SOFT, DeclineClass.TECHNICAL)
        if before.decline_class is DeclineClass.SOFT:
            assert before.resolved_at is not None
            assert attempt.claimed_at >= before.resolved_at + MIN_GAP


@thorough
@given(lives())
def test_a_hard_declined_method_is_never_used_again_by_itself(life: Life) -> None:
    """After a hard decline nothing automatic is sent with that method."""
    hard: set[str] = set()
    for attempt in life.attempts:
        assert attempt.source is MANUAL or attempt.payment_method_id not in hard
        if attempt.decline_class is DeclineClass.HARD:
            hard.add(attempt.payment_method_id)


@thorough
@given(lives())
def test_automatic_attempts_keep_to_the_charging_window(life: Life) -> None:
    """Nobody is charged outside the window but by what they or a person do."""
    window = life.policy.charging_window
    for _, decision in life.decisions:
        if window and isinstance(decision, RetryAt) and decision.source is not NEW_CARD:
            assert local_time(decision.at, life.zone).time() in window
