"""Step 4 of a charge: outcomes become committed facts, in small groups as they come in."""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

import structlog

from billing import settlement
from billing.declines import is_listed
from billing.facts import Attempt, Case
from billing.outcomes import Absent, Approved, Canceled, Declined, Outcome, Unknown
from worker import cases, memory, metrics
from worker.clock import machine_now
from worker.context import WorkerContext
from worker.db import Connection, with_retries
from worker.halving import breaks_its_batch
from worker.memory import Memory, StaleMemoryError
from worker.store import claims, control, facts, pace

log = structlog.get_logger()


class Told(NamedTuple):
    """What was learned about one attempt."""

    gateway: str
    invoice_id: UUID
    ordinal: int
    subscription_id: str
    outcome: Outcome
    memory: Memory | None = None


Call: TypeAlias = "asyncio.Task[Told]"


async def settle_as_they_come(
    context: WorkerContext,
    calls: Sequence[Coroutine[Any, Any, Told]],
    *,
    within_seconds: float,
    by_reconciler: bool = False,
) -> None:
    """Run all calls at once and commit their outcomes in groups, until all are done.

    Calls that take longer than `within_seconds` are dropped: their rows say `sent` or `unknown`, and
    reconciliation asks again under the same key.
    """
    if not calls:
        return
    done: asyncio.Queue[Call] = asyncio.Queue()
    deadline = machine_now() + within_seconds
    tasks = [asyncio.create_task(call) for call in calls]
    for task in tasks:
        task.add_done_callback(done.put_nowait)
    try:
        async with asyncio.timeout(within_seconds):
            left = len(tasks)
            while left:
                group = await _next_group(context, done, left)
                left -= len(group)
                await settle_group(
                    context,
                    _what_they_told(group),
                    within_seconds=deadline - machine_now(),
                    by_reconciler=by_reconciler,
                )
    except TimeoutError:
        log.warning("outcomes_left_to_reconciliation", left=sum(not t.done() for t in tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _next_group(context: WorkerContext, done: asyncio.Queue[Call], left: int) -> list[Call]:
    """The next call that ended and those that end within the settle interval, up to a full group."""
    settings = context.settings
    group = [await done.get()]
    full = min(left, settings.settle_group)
    until = machine_now() + settings.settle_interval_ms / 1000
    while len(group) < full:
        if not done.empty():
            group.append(done.get_nowait())
            continue
        if (pause := until - machine_now()) <= 0:
            break
        # Waking for every single outcome would cost more than settling it.
        await asyncio.sleep(min(pause, 0.005))
    return group


def _what_they_told(group: Sequence[Call]) -> list[Told]:
    """Adapters never raise: one that does is a bug, and its row is left to reconciliation."""
    for error in filter(None, (call.exception() for call in group)):
        log.error("call_failed", error=repr(error))
    return [call.result() for call in group if call.exception() is None]


async def settle_group(
    context: WorkerContext,
    group: Sequence[Told],
    *,
    within_seconds: float,
    by_reconciler: bool = False,
) -> None:
    """Commit a group; halve it until a row that cannot be settled is alone, and keep its outcome raw."""
    if not group:
        return

    remembered = list(group)

    async def transaction() -> list[Case]:
        # Memory is used once, whatever comes of it: the rules change what they are given.
        nonlocal remembered
        tried, remembered = remembered, _without_memory(group)
        try:
            return await _commit(context, tried, by_reconciler=by_reconciler)
        except StaleMemoryError:
            return await _commit(context, remembered, by_reconciler=by_reconciler)

    try:
        settled = await with_retries(transaction, what="settle", within_seconds=within_seconds)
    except Exception as error:
        if not breaks_its_batch(error):
            raise
        if len(group) == 1:
            await _keep_raw(context, group[0], error)
            return
        rest, half = _without_memory(group), len(group) // 2
        for part in (rest[:half], rest[half:]):
            await settle_group(
                context, part, within_seconds=within_seconds, by_reconciler=by_reconciler
            )
        return
    for case in settled:
        _count(case)
    _log(group)
    await _rest_if_asked(context, group)


def _log(group: Sequence[Told]) -> None:
    """One line a group, and one for each code that the tables should learn."""
    classes = Counter(type(told.outcome).__name__.lower() for told in group)
    outcome = ", ".join(f"{name} {count}" for name, count in sorted(classes.items()))
    log.info("outcomes_settled", gateway=group[0].gateway, count=len(group), outcome=outcome)
    for told in group:
        if not isinstance(told.outcome, Declined):
            continue
        code = told.outcome.code
        if not is_listed(gateway=told.gateway, code=code):
            metrics.count_unlisted_code(code)
            log.warning("decline_code_unlisted", gateway=told.gateway, code=code[:40])


def _without_memory(group: Sequence[Told]) -> list[Told]:
    return [told._replace(memory=None) for told in group]


async def _commit(
    context: WorkerContext, group: Sequence[Told], *, by_reconciler: bool
) -> list[Case]:
    async with context.pool.acquire() as conn, conn.transaction():
        await facts.lock(conn, sorted({told.subscription_id for told in group}))
        now = await control.read_now(conn)
        paid = [
            (told.memory, told.outcome)
            for told in group
            if told.memory is not None and isinstance(told.outcome, Approved)
        ]
        others = [
            told for told in group if told.memory is None or not isinstance(told.outcome, Approved)
        ]
        settled = await memory.settle(conn, paid, now=now)
        return settled + await _settle(conn, others, now, by_reconciler=by_reconciler)


async def _settle(
    conn: Connection, group: Sequence[Told], now: datetime, *, by_reconciler: bool
) -> list[Case]:
    """Settle outcomes whose subscriptions are locked, on what the database says of them."""
    if not group:
        return []
    ids = list({told.subscription_id for told in group})
    subscriptions = await facts.read_subscriptions(conn, ids)
    invoices = await facts.read_invoices(conn, {told.invoice_id for told in group})
    attempts = await facts.read_attempts(conn, {(told.invoice_id, told.ordinal) for told in group})
    # Only what may start or end a dunning needs to know what came before.
    asked = {told.invoice_id for told in group if told.ordinal > 1 and _is_final(told.outcome)}
    history = await facts.read_history(conn, asked) if asked else {}
    settled = []
    for told in group:
        attempt = attempts[told.invoice_id, told.ordinal]
        case = Case(
            subscriptions[told.subscription_id],
            invoices[told.invoice_id],
            attempt,
            now,
            facts.past(history.get(told.invoice_id, ()), before=told.ordinal),
            by_reconciler=by_reconciler,
        )
        settlement.settle(case, attempt, told.outcome)
        settled.append(case)
    await cases.save(conn, settled, actor="reconcile" if by_reconciler else "settle", now=now)
    return settled


def _is_final(outcome: Outcome) -> bool:
    return isinstance(outcome, (Approved, Declined, Canceled, Absent))


async def _keep_raw(context: WorkerContext, told: Told, error: Exception) -> None:
    reason = f"{type(error).__name__}: {error}"[:500]
    log.error("outcome_parked", row=f"{told.invoice_id}:{told.ordinal}", error=reason)
    async with context.pool.acquire() as conn:
        await claims.park_outcome(
            conn, told.invoice_id, told.ordinal, raw_outcome=repr(told.outcome), reason=reason
        )
    metrics.PARKED.labels("attempt").inc()


async def _rest_if_asked(context: WorkerContext, group: Sequence[Told]) -> None:
    """A gateway that said 429 is left alone as long as it asked: nothing of it is claimed."""
    asked: dict[str, int] = {}
    for told in group:
        outcome = told.outcome
        if isinstance(outcome, Unknown) and outcome.retry_after_seconds is not None:
            asked[told.gateway] = max(asked.get(told.gateway, 0), outcome.retry_after_seconds)
    for gateway, seconds in asked.items():
        async with context.pool.acquire() as conn:
            await pace.rest(conn, gateway, seconds=seconds)


def _count(case: Case) -> None:
    attempt: Attempt | None = case.attempt
    if attempt is None or not case.moves:
        return
    metrics.count_attempt(
        outcome=attempt.state, decline_class=attempt.decline_class, ordinal=attempt.ordinal
    )
    invoice = case.invoice
    if invoice.paid_at == case.now and invoice.first_declined_at is not None:
        metrics.count_recovery(
            by=invoice.recovered_by or "retry",
            amount_minor=invoice.amount_minor,
            currency=invoice.currency,
            seconds=(case.now - invoice.first_declined_at).total_seconds(),
        )
