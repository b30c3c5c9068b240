"""Plans: what is sold stays what it is, the price changes by version."""

from dataclasses import replace

from billing.events import PlatformEvent, shown
from billing.events.payloads import PlanUpserted
from worker.platform.desk import Desk
from worker.platform.verdicts import Applied, Kind, Missing, Ref, Refused, Superseded, Verdict
from worker.store.inbox import Topic
from worker.store.plans import Plan


def upsert_plan(desk: Desk, event: PlatformEvent, told: PlanUpserted) -> Verdict:
    """A plan as told now; another price is a new version, for new subscribers."""
    if desk.sellers.get(told.seller_id) is None:
        return Missing(Ref(Kind.SELLER, told.seller_id), "data.seller_id")
    ref = Ref(Kind.PLAN, told.plan_id)
    topic = Topic(*ref, "profile")
    if desk.is_superseded(topic, event):
        return Superseded()
    known = desk.plans.get(told.plan_id)
    plan = _plan(told)
    if known is None:
        desk.new_prices.append(plan)
    elif refused := _refuse_change(known, plan):
        return refused
    elif plan.price == known.price:
        plan = replace(plan, price_version=known.price_version)
    else:
        plan = replace(plan, price_version=known.price_version + 1)
        desk.new_prices.append(plan)
    desk.note(topic, event)
    return Applied(ref if desk.plans.put(told.plan_id, plan) else None)


def _refuse_change(known: Plan, plan: Plan) -> Refused | None:
    """Periods that are sold cannot become longer or change their currency (LIFECYCLE 30)."""
    fixed = {
        "data.product_id": (known.product_id, plan.product_id),
        "data.interval.unit": (known.interval_unit, plan.interval_unit),
        "data.interval.count": (known.interval_count, plan.interval_count),
        "data.price.currency": (known.currency, plan.currency),
    }
    for field, (before, after) in fixed.items():
        if before != after:
            error = f"{field} is {shown(after)}: should stay {shown(before)} on a known plan"
            return Refused(field, error)
    return None


def _plan(told: PlanUpserted) -> Plan:
    """The plan with version 1 of its price."""
    policy = told.retry_policy
    return Plan(
        plan_id=told.plan_id,
        seller_id=told.seller_id,
        product_id=told.product_id,
        name=told.name,
        interval_unit=told.interval.unit,
        interval_count=told.interval.count,
        currency=told.price.currency,
        price_version=1,
        trial_days=told.trial_days or 0,
        cycles=told.cycles,
        installments=told.installments,
        proration=told.proration or "day",
        retry_policy={} if policy is None else policy.model_dump(by_alias=True, exclude_none=True),
        reminders=[line.model_dump(exclude_none=True) for line in told.reminders or []],
        grants_all_products=bool(told.grants_all_products),
        catch_up_periods=told.catch_up_periods or 1,
        while_past_due=told.while_past_due or "hold",
        ceiling_minor=told.ceiling_minor,
        extra=told.extra,
        price_model=told.price.model,
        unit_amount_minor=told.price.unit_amount_minor,
        tax_minor=told.price.tax_minor,
    )
