"""Every invariant is falsified by hand once: it turns red, and nothing else does."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from scheduler import invariants
from scheduler.invariants import INVARIANTS
from tests.scheduler.healthy import NOW, TOKENS, Healthy
from tests.world import START

Breaker = Callable[[Healthy], Awaitable[None]]
MINUTE, HOUR, SECOND = timedelta(minutes=1), timedelta(hours=1), timedelta(seconds=1)


BREAKERS: dict[str, list[Breaker]] = {}


def breaks(name: str) -> Callable[[Breaker], Breaker]:
    """This breaks the invariant of that name."""

    def register(breaker: Breaker) -> Breaker:
        BREAKERS.setdefault(name, []).append(breaker)
        return breaker

    return register


def statement(name: str, sql: str, *arguments: object) -> None:
    """One statement that breaks the invariant of that name."""
    breaks(name)(lambda world: world.run(sql, *arguments))


TELL = "UPDATE outbox_event SET type = $2 WHERE subscription_id = $1 AND type = $3"
NOTHING, INVOICE_PAID, FAILED = "notice.sent", "billing.invoice.paid", "billing.payment.failed"


@breaks("one_success")
async def _(world: Healthy) -> None:
    await world.conn.execute("DROP INDEX attempt_one_live")
    await world.another_attempt("paid", NOW, resolved_at=str(NOW), gateway_ref="x")


@breaks("one_live_attempt")
async def _(world: Healthy) -> None:
    await world.conn.execute("DROP INDEX attempt_one_live")
    await world.another_attempt("lost", NOW)


@breaks("paid_has_success")
async def _(world: Healthy) -> None:
    await world.run("DELETE FROM attempt WHERE subscription_id = 'paid'")
    reference = str(world.invoices["paid"])
    await world.run("DELETE FROM gateway_charge WHERE reference = $1", reference)


@breaks("success_is_paid")
async def _(world: Healthy) -> None:
    void = "UPDATE invoice SET status = 'void', paid_at = NULL WHERE subscription_id = 'paid'"
    await world.run(void)
    moved = (
        "UPDATE transition SET to_state = 'void' WHERE machine = 'invoice' AND to_state = 'paid'"
    )
    await world.run(f"{moved} AND subscription_id = 'paid'")
    await world.run(TELL, "paid", NOTHING, INVOICE_PAID)


statement("amount_matches", "UPDATE attempt SET amount_minor = 1 WHERE subscription_id = 'lost'")
statement("amount_matches", "UPDATE attempt SET currency = 'EUR' WHERE subscription_id = 'lost'")
statement("amount_matches", "UPDATE plan SET ceiling_minor = 1")
statement(
    "lines_add_up",
    "UPDATE invoice_line SET amount_minor = 1 WHERE ctid = (SELECT min(ctid) FROM invoice_line)",
)
statement("lines_add_up", "DELETE FROM invoice_line")
statement(
    "no_charge_after_end",
    "UPDATE attempt SET claimed_at = $1 WHERE subscription_id = 'ended'",
    START + HOUR + SECOND,
)


@breaks("no_charge_after_hard")
async def _(world: Healthy) -> None:
    nothing_yet = dict.fromkeys(["resolved_at", "decline_class"])
    await world.another_attempt("hard", START + SECOND, state="unknown", **nothing_yet)


@breaks("no_charge_after_hard")
async def _(world: Healthy) -> None:
    card = "UPDATE attempt SET payment_method_id = 'pm_hard', claimed_at = $1"
    await world.run(f"{card} WHERE subscription_id = 'lost'", START + 2 * MINUTE)


statement("request_unchanged", "UPDATE attempt SET request = request || ' ' WHERE ordinal = 2")
statement("key_derived", "UPDATE attempt SET idempotency_key = 'k' WHERE subscription_id = 'lost'")


statement("rows_have_parents", "DELETE FROM subscription WHERE subscription_id = 'lost'")
statement("rows_have_parents", "DELETE FROM invoice WHERE subscription_id = 'lost'")
statement(
    "rows_have_parents",
    "INSERT INTO invoice_line VALUES (gen_random_uuid(), 0, 'One month', 1, 4900, 4900)",
)


@breaks("rows_have_parents")
async def _(world: Healthy) -> None:
    orphan = "INSERT INTO invoice_line VALUES (gen_random_uuid(), 0, 'Whose?', 1, 0, 0)"
    await world.run(orphan)


@breaks("ordinals_gapless")
async def _(world: Healthy) -> None:
    key = "SELECT idempotency_key FROM attempt WHERE subscription_id = 'recovered' AND ordinal = 1"
    await world.run(f"DELETE FROM gateway_charge WHERE idempotency_key = ({key})")
    await world.run("DELETE FROM attempt WHERE subscription_id = 'recovered' AND ordinal = 1")
    await world.run(TELL, "recovered", NOTHING, FAILED)


FORGET = "UPDATE subscription SET next_renewal_at = NULL, status = $2 WHERE subscription_id = $1"


@breaks("renewal_not_forgotten")
async def _(world: Healthy) -> None:
    await world.run(FORGET, "paid", "active")


@breaks("renewal_not_forgotten")
async def _(world: Healthy) -> None:
    await world.run(FORGET, "recovered", "active")


statement(
    "renewal_on_time",
    "UPDATE subscription SET next_renewal_at = $1 WHERE subscription_id = 'paid'",
    NOW - HOUR - SECOND,
)
statement(
    "retry_on_time",
    "UPDATE invoice SET attempt_due_at = $1 WHERE subscription_id = 'late'",
    NOW - HOUR - SECOND,
)
statement(
    "invoice_not_forgotten",
    "UPDATE invoice SET attempt_due_at = NULL WHERE subscription_id = 'late'",
)
statement(
    "nothing_stays_open",
    "UPDATE attempt SET claimed_at = $1 WHERE subscription_id = 'lost'",
    NOW - 20 * HOUR - SECOND,
)
statement("periods_gapless", "DELETE FROM period_skip WHERE period_index = 1")
statement(
    "periods_gapless",
    "UPDATE period_skip SET period_end = period_end + interval '1 s' WHERE period_index = 2",
)
statement(
    "sequence_gapless",
    "UPDATE subscription SET sequence = sequence + 1 WHERE subscription_id = 'late'",
)
statement("sequence_gapless", "DELETE FROM outbox_event WHERE type LIKE '%.past_due'")
statement("payment_was_told", TELL, "paid", NOTHING, INVOICE_PAID)
statement("payment_was_told", TELL, "paid", INVOICE_PAID, "billing.subscription.renewed")
statement("failure_was_told", TELL, "late", NOTHING, FAILED)
statement("failure_was_told", TELL, "voided", NOTHING, FAILED)
statement(
    "failure_was_told",
    "UPDATE outbox_event o SET type = f.type, body = f.body FROM outbox_event f"
    " WHERE o.subscription_id = f.subscription_id AND f.type LIKE '%.failed'"
    " AND o.type LIKE '%.past_due' AND o.subscription_id = 'late'",
)
statement(
    "failure_was_told",
    "UPDATE outbox_event SET body = replace(body, '\"attempt\":1', '\"attempt\":7')"
    " WHERE subscription_id = 'late'",
)
statement(
    "outbox_flows", "UPDATE outbox_event SET created_at = clock_timestamp() - '6 min'::interval"
)
statement(
    "transitions_chain",
    "UPDATE transition SET to_state = 'paused' WHERE machine = 'subscription' AND to_state = 'past_due'",
)
statement("transitions_chain", "DELETE FROM transition WHERE machine = 'invoice'")
statement(
    "transitions_chain", "DELETE FROM transition WHERE machine = 'attempt' AND to_state = 'void'"
)
statement(
    "transitions_chain",
    "DELETE FROM transition WHERE machine = 'subscription' AND to_state = 'past_due'"
    " AND subscription_id = 'recovered'",
)
statement(
    "transitions_legal",
    "UPDATE transition SET from_state = replace(from_state, 'past_due', 'expired'),"
    " to_state = replace(to_state, 'past_due', 'expired')"
    " WHERE machine = 'subscription' AND subscription_id = 'recovered'",
)


@breaks("one_effect")
async def _(world: Healthy) -> None:
    for _n in range(2):
        await world.run(
            "INSERT INTO inbox_event (source, event_id, type, occurred_at, received_at, result, body)"
            " VALUES ('s', 'e', 't', $1, $1, 'applied', '')",
            NOW,
        )


NOTICE = """
INSERT INTO notice (notice_id, subscription_id, kind, target_date, send_at, state, context, created_at,
                    settled_at)
VALUES (gen_random_uuid(), $1, 'upcoming_renewal', $2::timestamptz::date, $2, 'sent',
        jsonb_build_object('renewal_at', $3::timestamptz), $2, $2)
"""


@breaks("notice_once")
async def _(world: Healthy) -> None:
    await world.conn.execute("DROP INDEX notice_once")
    for _n in range(2):
        await world.run(NOTICE, "paid", START, START + HOUR)


statement("no_late_notice", NOTICE, "ended", START + 2 * HOUR + SECOND, START + 24 * HOUR)
statement("no_late_notice", NOTICE, "paid", START + HOUR + SECOND, START)

CHARGE = """
INSERT INTO gateway_charge
SELECT 'sandbox', 'ch_x', coalesce($2, a.idempotency_key), coalesce($3, a.invoice_id::text), $4,
       a.amount_minor, a.currency, 0, $5, $5
  FROM attempt a WHERE subscription_id = $1
"""
OURS = "b1:' || (SELECT installation_id FROM control) || ':x"

statement("ledger_one_charge", CHARGE, "paid", None, None, "succeeded", START)
statement("ledger_no_lost", CHARGE, "lost", None, None, "succeeded", NOW - 16 * MINUTE)
statement("ledger_no_foreign", CHARGE.replace("coalesce($2,", f"coalesce($2, '{OURS}',"),
          "paid", None, "r", "declined", START)  # fmt: skip
statement("ledger_has_success", "DELETE FROM gateway_charge WHERE status = 'succeeded'")
statement("ledger_has_success", "UPDATE gateway_charge SET currency = 'EUR'")
statement("ledger_has_success", "UPDATE gateway_charge SET status = 'pending'")

IMPLIED = {"one_success": {"one_live_attempt"}}
"""A second success is a second live attempt as well."""

CASES = [(name, n) for name, breakers in BREAKERS.items() for n in range(len(breakers))]


def test_every_invariant_has_a_breaker() -> None:
    """No invariant is there that nobody has ever seen red."""
    assert {invariant.name for invariant in INVARIANTS} == BREAKERS.keys()
    assert len({invariant.name for invariant in INVARIANTS}) == len(INVARIANTS)


async def test_a_healthy_world_is_all_green(healthy: Healthy) -> None:
    """Paid, recovered, past due, hard-declined, voided, lost, skipped and ended: nothing is wrong."""
    assert healthy.invoices.keys() == TOKENS.keys()
    assert await healthy.broken() == set()


@pytest.mark.parametrize(("name", "n"), CASES)
async def test_what_is_broken_turns_red_alone(healthy: Healthy, name: str, n: int) -> None:
    """The invariant finds the row, and no other one takes fright."""
    await BREAKERS[name][n](healthy)
    assert await healthy.broken() == {name} | IMPLIED.get(name, set())


async def test_a_verdict_names_a_few_rows(healthy: Healthy) -> None:
    """How many rows are wrong, and the first of them by name."""
    await healthy.run(FORGET, "paid", "active")
    verdicts = await invariants.watch(healthy.conn, now=NOW)
    assert {verdict.name for verdict in verdicts} == invariants.WATCHED
    verdicts = await invariants.check(healthy.conn, now=NOW)
    [red] = [verdict for verdict in verdicts if not verdict.ok]
    assert (red.name, red.rows, red.sample) == ("renewal_not_forgotten", 1, ["paid"])
