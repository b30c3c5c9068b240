"""What only looks wrong: states that are legal, rare, and must not call anybody."""

from datetime import timedelta

from tests.scheduler.healthy import NOW, Healthy
from tests.world import START

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


async def test_a_resend_is_no_second_message(healthy: Healthy) -> None:
    """A sync sends stored messages again: same bodies, without subscription and sequence."""
    await healthy.run(
        "INSERT INTO outbox_event (slot, type, body) SELECT slot, type, body FROM outbox_event"
    )
    assert await healthy.broken() == set()


async def test_new_card_details_end_a_hard_decline(healthy: Healthy) -> None:
    """Under the same id it is another card: charging it is no sin, whenever the old no came in."""
    change = "UPDATE payment_method SET hard_declined_at = NULL, hard_decline_code = NULL"
    await healthy.run(
        f"{change}, changed_at = $1 WHERE hard_declined_at IS NOT NULL", START + MINUTE
    )
    nothing_yet = dict.fromkeys(["resolved_at", "decline_class"])
    await healthy.another_attempt("hard", START + 2 * MINUTE, state="unknown", **nothing_yet)
    assert await healthy.broken() == set()


async def test_a_ceiling_binds_what_comes_after_it(healthy: Healthy) -> None:
    """The plan's ceiling was lowered: what was charged before it was told stays right."""
    told = START + HOUR + MINUTE
    await healthy.run("UPDATE plan SET ceiling_minor = 1")
    await healthy.run("INSERT INTO inbox_key VALUES ('platform', 'e1', $1)", told)
    await healthy.run(
        "INSERT INTO applied_version VALUES ('plan', 'plan_1', 'profile', $1, 0, 'e1')", START - DAY
    )
    assert await healthy.broken() == set()


async def test_a_double_charge_that_was_paid_back_is_over(healthy: Healthy) -> None:
    """The gateway charged twice, and the second charge was refunded whole."""
    await healthy.run(
        "INSERT INTO gateway_charge SELECT gateway, 'ch_twice', idempotency_key, reference, status,"
        " amount_minor, currency, amount_minor, created_at, imported_at FROM gateway_charge"
        " WHERE reference = $1",
        str(healthy.invoices["paid"]),
    )
    assert await healthy.broken() == set()


async def test_a_charge_of_a_moment_ago_may_be_unknown(healthy: Healthy) -> None:
    """Both ways: look-ups lag behind charges, and settling behind the gateway."""
    await healthy.run(
        "INSERT INTO gateway_charge SELECT gateway, 'ch_x', idempotency_key, invoice_id::text,"
        " 'succeeded', amount_minor, currency, 0, $1, $1 FROM attempt WHERE subscription_id = 'lost'",
        NOW - 14 * MINUTE,
    )
    await healthy.run(
        "DELETE FROM gateway_charge WHERE reference = $1", str(healthy.invoices["paid"])
    )
    await healthy.run(
        "UPDATE attempt SET resolved_at = $1 WHERE subscription_id = 'paid'", NOW - 14 * MINUTE
    )
    assert await healthy.broken() == set()


async def test_a_held_period_is_due_when_the_debt_is_paid(healthy: Healthy) -> None:
    """Weeks in dunning, paid a moment ago: the next period is weeks late and not forgotten."""
    await healthy.run("UPDATE invoice SET paid_at = $1 WHERE subscription_id = 'recovered'", NOW)
    await healthy.run(
        "UPDATE subscription SET next_renewal_at = $1 WHERE subscription_id = 'recovered'",
        NOW - 20 * DAY,
    )
    assert await healthy.broken() == set()


async def test_what_a_kill_switch_holds_is_late_on_purpose(healthy: Healthy) -> None:
    """Renewals and retries wait as long as charging is paused."""
    await healthy.run(
        "INSERT INTO charging_pause VALUES ('plan', 'plan_1', 'test', 'me', clock_timestamp())"
    )
    await healthy.run(
        "UPDATE subscription SET next_renewal_at = $1 WHERE status = 'active'", START - DAY
    )
    await healthy.run(
        "UPDATE invoice SET attempt_due_at = $1 WHERE attempt_due_at IS NOT NULL", START - DAY
    )
    assert await healthy.broken() == set()


async def test_a_renewal_that_a_cancel_comes_before_is_not_late(healthy: Healthy) -> None:
    """The scheduled cancel ends it; nobody waits for its renewal."""
    await healthy.run(
        "UPDATE subscription SET next_renewal_at = $1, cancel_at = $1, cancel_origin = 'customer'"
        " WHERE subscription_id = 'paid'",
        NOW - DAY,
    )
    assert await healthy.broken() == set()


async def test_a_parked_row_waits_for_a_person(healthy: Healthy) -> None:
    """What was set aside is on a list: it is not forgotten."""
    await healthy.run(
        "UPDATE subscription SET next_renewal_at = NULL WHERE subscription_id = 'paid'"
    )
    await healthy.run(
        "INSERT INTO parked VALUES ('renewal', 'paid', 'paid', 'broken', $1, $1)", START
    )
    await healthy.run(
        "UPDATE invoice SET attempt_due_at = NULL, hold_reason = 'parked'"
        " WHERE subscription_id = 'late'"
    )
    assert await healthy.broken() == set()


async def test_a_mail_on_its_way_at_the_end_was_not_late(healthy: Healthy) -> None:
    """Handed to the mail server before the cancel, known to be sent after it."""
    await healthy.run(
        "INSERT INTO notice (notice_id, subscription_id, kind, target_date, send_at, state, context,"
        " created_at, settled_at) VALUES (gen_random_uuid(), 'ended', 'upcoming_renewal', '2026-01-31',"
        " $1, 'sent', jsonb_build_object('renewal_at', $2::timestamptz), $1, $3)",
        START,
        START + 24 * DAY,
        START + HOUR + 5 * MINUTE,
    )
    assert await healthy.broken() == set()
