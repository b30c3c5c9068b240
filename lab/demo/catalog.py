"""What the demo's platform sells, and where its customers live: parts of platform messages."""

from typing import Any, NamedTuple

Json = dict[str, Any]

GATEWAY = "sandbox"
POPULATION = "base"

SELLERS: tuple[Json, ...] = (
    {
        "seller_id": "sel_chess",
        "name": "Caissa Chess School",
        "timezone": "Europe/Madrid",
        "statement_descriptor": "CAISSA CHESS",
    },
    {
        "seller_id": "sel_piano",
        "name": "Tanaka Piano",
        "timezone": "Asia/Tokyo",
        "statement_descriptor": "TANAKA PIANO",
    },
    {
        "seller_id": "sel_code",
        "name": "Gulf Code Academy",
        "timezone": "Asia/Kuwait",
        "statement_descriptor": "GULF CODE",
    },
)


class Offer(NamedTuple):
    """A plan as the platform tells it, and the share of the customers who took it."""

    share: float
    seats: tuple[int, int]
    plan: Json


def _plan(plan_id: str, seller_id: str, name: str, unit: str, price: Json, **more: Any) -> Json:
    return {
        "plan_id": plan_id,
        "seller_id": seller_id,
        "product_id": f"prod_{plan_id.removeprefix('plan_')}",
        "name": name,
        "interval": {"unit": unit, "count": 1},
        "price": price,
        **more,
    }


def _flat(currency: str, unit_amount_minor: int) -> Json:
    return {"model": "flat", "currency": currency, "unit_amount_minor": unit_amount_minor}


OFFERS: tuple[Offer, ...] = (
    Offer(
        0.35, (1, 1), _plan("plan_chess", "sel_chess", "Chess club", "month", _flat("EUR", 1900))
    ),
    Offer(
        0.10,
        (1, 1),
        _plan(
            "plan_chess_year",
            "sel_chess",
            "Chess club, a year",
            "year",
            _flat("EUR", 19000),
            reminders=[{"days_before": 30}, {"days_before": 7}],
        ),
    ),
    Offer(
        0.20,
        (1, 1),
        _plan(
            "plan_piano",
            "sel_piano",
            "Piano from zero",
            "month",
            _flat("JPY", 4900),
            trial_days=14,
        ),
    ),
    Offer(
        0.25,
        (1, 1),
        _plan(
            "plan_code",
            "sel_code",
            "Code, alone",
            "month",
            _flat("USD", 3900),
            retry_policy={"grace_days": 7},
        ),
    ),
    Offer(
        0.10,
        (2, 12),
        _plan(
            "plan_code_team",
            "sel_code",
            "Code, as a team",
            "month",
            {"model": "per_unit", "currency": "KWD", "unit_amount_minor": 9500},
            reminders=[{"days_before": 3}],
        ),
    ),
)
"""Five plans in four currencies, JPY without and KWD with three decimals; monthly and yearly."""

HOMES: tuple[tuple[str, str], ...] = (
    ("America/New_York", "en-US"),
    ("America/Los_Angeles", "en-US"),
    ("America/Sao_Paulo", "pt-BR"),
    ("Europe/London", "en-GB"),
    ("Europe/Madrid", "es-ES"),
    ("Europe/Berlin", "de-DE"),
    ("Africa/Lagos", "en-NG"),
    ("Asia/Kuwait", "ar-KW"),
    ("Asia/Kolkata", "en-IN"),
    ("Asia/Tokyo", "ja-JP"),
    ("Australia/Sydney", "en-AU"),
)
"""Zones with their languages; on both sides of the equator, so that summer time moves both ways."""
