"""The issuer model: reproducible, and close to the figures that it was fitted to."""

import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from lab.issuer import Reaction, ReactionKind, Reason, Refusal, World
from lab.people import Case, model_hours
from lab.population import load_shipped

SAMPLE = 40_000
HORIZON_HOURS = 28 * 24
FIXED_8 = (1, 3, 5, 8, 11, 15, 20, 26)
NEVER_AGAIN = {
    *("expired_card", "lost_card", "stolen_card", "invalid_account", "authentication_required"),
}
Policy = Callable[[Case], Iterator[float]]
Failed = list[tuple[Case, Refusal]]


@pytest.fixture(scope="module")
def base() -> World:
    return World(load_shipped("base"), seed=1)


@pytest.fixture(scope="module")
def cases(base: World) -> list[Case]:
    """Invoices of as many persons, spread as in a reference run."""
    return [
        base.case(base.person(f"p{n}"), f"p{n}", first_at=base.first_attempt(f"p{n}"))
        for n in range(SAMPLE)
    ]


@pytest.fixture(scope="module")
def failed(base: World, cases: list[Case]) -> Failed:
    """The invoices whose first attempt is declined."""
    return [(case, refusal) for case in cases if (refusal := base.answer(case, 0))]


def days(*wanted: int, at_ten: bool = False) -> Policy:
    """Retries on these days after the first decline, at its hour or at 10:00 local."""

    def policy(case: Case) -> Iterator[float]:
        for day in wanted:
            at = case.first_at + day * 24
            yield (math.floor(at / 24) * 24 + 10 if at_ten else at) - case.first_at

    return policy


def mail_ends(world: World, case: Case) -> tuple[float, ReactionKind | None]:
    """When the first mail that moves the customer ends the invoice, and how."""
    ends = [
        (day * 24 + reaction.delay_hours, reaction.kind)
        for mail, day in enumerate(world.population.mail.days)
        if (reaction := world.mail_reaction(case, mail))
        and (reaction.succeeds or reaction.kind is ReactionKind.CANCEL)
    ]
    return min(ends, default=(math.inf, None))


def is_recovered(world: World, case: Case, refusal: Refusal, policy: Policy) -> bool:
    """Runs one failed invoice: retries and mails for 28 days, none after a hard decline."""
    ends_after, how = mail_ends(world, case)
    declined_after, code = [0.0], refusal.code
    for after in policy(case):
        if after > min(HORIZON_HOURS, ends_after) or code in NEVER_AGAIN:
            break
        answer = world.answer(case, after, declined_after=declined_after)
        if answer is None:
            return True
        declined_after.append(after)
        code = answer.code
    return how is ReactionKind.ACT and ends_after <= HORIZON_HOURS


def recovered_percent(world: World, failed: Failed, policy: Policy) -> float:
    wins = sum(is_recovered(world, case, refusal, policy) for case, refusal in failed)
    return 100 * wins / len(failed)


@pytest.mark.parametrize(("funding", "percent"), [("credit", 5.9), ("debit", 13.0)])
def test_first_declines_match_the_reference(
    cases: list[Case], failed: Failed, funding: str, percent: float
) -> None:
    """5.9 % of credit and 13.0 % of debit cards are declined first, within 0.6 points."""
    tried = sum(case.person.funding.name == funding for case in cases)
    declined = sum(case.person.funding.name == funding for case, _ in failed)
    assert 100 * declined / tried == pytest.approx(percent, abs=0.6)


def test_insufficient_funds_is_the_commonest_code(failed: Failed) -> None:
    """About 47 % of first declines are told as insufficient funds."""
    told = sum(refusal.code == "insufficient_funds" for _, refusal in failed)
    assert 100 * told / len(failed) == pytest.approx(47, abs=3)


def test_nights_decline_more(base: World, cases: list[Case], failed: Failed) -> None:
    """From 01:00 to 04:59 local, declines are about 1.45 times as frequent."""

    def is_night(case: Case) -> bool:
        return 1 <= case.first_at % 24 < 5

    nights = sum(map(is_night, cases))
    night_rate = sum(is_night(case) for case, _ in failed) / nights
    day_rate = sum(not is_night(case) for case, _ in failed) / (len(cases) - nights)
    assert night_rate / day_rate == pytest.approx(1.45, abs=0.2)


@pytest.mark.parametrize(
    ("policy", "percent"),
    [
        (days(), 23.7),
        (days(1, 3, 5, 7), 48.1),
        (days(*FIXED_8), 60.3),
        (days(*FIXED_8, at_ten=True), 61.6),
    ],
    ids=["mails only", "days 1 3 5 7", "fixed 8", "fixed 8 at 10:00"],
)
def test_reference_policies_recover_what_they_did(
    base: World, failed: Failed, policy: Policy, percent: float
) -> None:
    """The share of failed invoices that a policy recovers in 28 days, within 2 points."""
    assert recovered_percent(base, failed, policy) == pytest.approx(percent, abs=2)


def test_emerging_is_another_world() -> None:
    """39.8 % are declined first and fixed 8 recovers 46.8 % of them."""
    world = World(load_shipped("emerging"), seed=1)
    ids = [f"p{n}" for n in range(10_000)]
    cases = [world.case(world.person(i), i, first_at=world.first_attempt(i)) for i in ids]
    failed = [(case, refusal) for case in cases if (refusal := world.answer(case, 0))]
    assert 100 * len(failed) / len(cases) == pytest.approx(39.8, abs=1.5)
    assert recovered_percent(world, failed, days(*FIXED_8)) == pytest.approx(46.8, abs=2.5)


def test_a_world_is_its_seed(cases: list[Case]) -> None:
    """The same seed gives the same persons, invoices and answers; another seed others."""
    again, other = (World(load_shipped("base"), seed=seed) for seed in (1, 2))
    ids = [f"p{n}" for n in range(200)]
    drawn = [again.case(again.person(i), i, first_at=again.first_attempt(i)) for i in ids]
    assert drawn == cases[:200]
    assert [other.person(i) for i in ids] != [again.person(i) for i in ids]


def test_the_same_hour_gives_the_same_answer(base: World, failed: Failed) -> None:
    """What is drawn anew is drawn by the hour; only a dry spell, hold or outage ends within it."""
    for case, _ in failed[:300]:
        hour = math.floor(case.first_at) + 100
        first, second = (
            base.answer(case, hour + minutes / 60 - case.first_at, declined_after=[0.0])
            for minutes in (31, 58)
        )
        reasons = {answer.reason for answer in (first, second) if answer}
        assert first == second or reasons & {Reason.LIQUIDITY, Reason.HOLD, Reason.OUTAGE}


def test_one_person_keeps_payday_and_funding_over_invoices(base: World) -> None:
    """The latent person is the same in every invoice; the invoice's own draws differ."""
    person = base.person("p1")
    cases = [base.case(person, f"inv{n}", first_at=n * 720.0) for n in range(12)]
    assert {case.person for case in cases} == {base.person("p1")}
    assert len({case.topup_after for case in cases}) == 12


def test_hasty_retries_can_extend_a_hold(base: World, failed: Failed) -> None:
    """Of holds that are retried within a day of a decline, about 35 % stand a day longer."""
    held = [case for case, _ in failed if 30 < case.hold_ends < math.inf]
    ends = [case.hold_ends for case in held]
    extended = 0
    for case, end in zip(held, ends, strict=True):
        hasty = [0.0, end - 20, end - 1]
        answer = base.answer(case, end + 22, declined_after=hasty)
        extended += answer is not None and answer.reason is Reason.HOLD
    assert extended / len(held) == pytest.approx(0.35, abs=0.12)


def test_dead_cards_and_sca_never_pass_by_retry(base: World, cases: list[Case]) -> None:
    """No hour of 28 days approves a dead card or one that needs its owner."""
    stuck = [case for case in cases if case.dead or case.sca][:50]
    hours = range(1, HORIZON_HOURS, 7)
    assert all(base.answer(case, hour, declined_after=[0.0]) for case in stuck for hour in hours)


def test_mails_move_some_customers(base: World, cases: list[Case]) -> None:
    """The first mail moves about 10.6 % to act and 0.9 % to cancel; there are four mails."""
    reactions = [base.mail_reaction(case, 0) for case in cases if not (case.dead or case.sca)]
    acts = [reaction for reaction in reactions if is_of(reaction, ReactionKind.ACT)]
    cancels = [reaction for reaction in reactions if is_of(reaction, ReactionKind.CANCEL)]
    assert len(acts) / len(reactions) == pytest.approx(0.1325 * 0.8, abs=0.008)
    assert len(cancels) / len(reactions) == pytest.approx(0.01 * 0.9, abs=0.002)
    delays = [reaction.delay_hours for reaction in acts if reaction]
    assert sum(delays) / len(delays) == pytest.approx(20, abs=1.5)
    assert base.mail_reaction(cases[0], 4) is None


def is_of(reaction: Reaction | None, kind: ReactionKind) -> bool:
    return reaction is not None and reaction.kind is kind


def test_the_model_starts_on_a_monday() -> None:
    """Hour 0 is Monday 2024-01-01, so that Fridays of the model are Fridays."""
    friday = datetime(2026, 3, 6, 10, tzinfo=UTC)
    assert friday.weekday() == 4
    assert int(model_hours(friday)) // 24 % 7 == 4
