"""`tok_sim_*`: the issuer model behind the sandbox gateway."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from lab.issuer import World
from lab.people import model_hours
from lab.population import POPULATIONS_DIR, load_shipped
from tests.lab.bank import Bank
from tests.lab.conftest import OpenBank

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAYS = (0, 1, 3, 5)


def code_of(body: dict[str, dict[str, str]]) -> str:
    return body.get("decline", {}).get("code", "ok")


def code_by_model(world: World, person_id: str, invoice_id: str, after: float) -> str:
    case = world.case(world.person(person_id), invoice_id, first_at=model_hours(NOON))
    earlier = [day * 24.0 for day in DAYS if day * 24 < after]
    refusal = world.answer(case, after, declined_after=earlier)
    return refusal.code if refusal else "ok"


async def codes_of_ladder(bank: Bank, people: range) -> dict[str, list[str]]:
    """Each invoice tried on DAYS until it is paid."""
    codes: dict[str, list[str]] = {f"{number}": [] for number in people}
    for day in DAYS:
        bank.move_to(NOON + timedelta(days=day))
        for person, seen in codes.items():
            if "ok" not in seen:
                token = f"tok_sim_emerging_{person}"
                reply = await bank.charge(token, reference=f"inv_{person}")
                seen.append(code_of(reply.body))
    return codes


async def test_simulated_tokens_answer_as_the_model_does(open_bank: OpenBank) -> None:
    """First attempts and retries of an invoice meet the model's answers for those instants."""
    bank = await open_bank(seed=5)
    world = World(load_shipped("emerging"), seed=5)
    told = await codes_of_ladder(bank, range(150))
    expected = {
        person: [code_by_model(world, person, f"inv_{person}", day * 24.0) for day in DAYS]
        for person in told
    }
    assert told == {person: codes[: len(told[person])] for person, codes in expected.items()}
    assert 40 < sum(codes[0] != "ok" for codes in told.values()) < 80


async def test_a_restarted_sandbox_answers_the_same(open_bank: OpenBank, tmp_path: Path) -> None:
    """When an invoice was first tried, and its earlier declines, are read from the ledger."""
    path = tmp_path / "ledger.jsonl"
    whole = await codes_of_ladder(await open_bank(), range(40))
    bank = await open_bank(ledger_path=path)
    bank.move_to(NOON)
    for person in whole:
        await bank.charge(f"tok_sim_emerging_{person}", key=person, reference=f"inv_{person}")
    await bank.sandbox.close()
    again = await open_bank(ledger_path=path)
    again.move_to(NOON + timedelta(days=1))
    second = {
        person: code_of(
            (await again.charge(f"tok_sim_emerging_{person}", reference=f"inv_{person}")).body
        )
        for person, codes in whole.items()
        if len(codes) > 1
    }
    assert second == {person: codes[1] for person, codes in whole.items() if len(codes) > 1}


async def test_a_population_of_ones_own(open_bank: OpenBank, tmp_path: Path) -> None:
    """A file beside the shipped ones gives its name to tokens."""
    path = tmp_path / "mine.toml"
    text = (POPULATIONS_DIR / "base.toml").read_text()
    path.write_text(text.replace('"base"', '"mine"').replace("dead = 0.01", "dead = 0.9"))
    bank = await open_bank(populations={"mine": path})
    charges = [await bank.charge(f"tok_sim_mine_{n}", reference=f"inv_{n}") for n in range(40)]
    assert sum(charge.body["status"] == "declined" for charge in charges) > 20
