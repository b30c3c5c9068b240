"""What must always be true, as queries that must return no row. `now` is $1 of each.

Run by `renewd audit` and by the tests after every fault; those of `WATCHED`, which read only what is
open or due, also by every scheduler (gauge `renewd_invariant_rows`). Those of the ledger compare with `gateway_charge`, which `renewd audit --gateway-ledger` fills.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from scheduler.store import invariants as sql
from worker.db import Connection

SAMPLE_SIZE = 5


@dataclass(frozen=True, slots=True)
class Invariant:
    """One truth; `statement` finds the rows that break it, their first column names them."""

    name: str
    meaning: str
    statement: str
    needs_ledger: bool = False


class Verdict(NamedTuple):
    """How many rows break an invariant (0 is good), and a few of them."""

    name: str
    meaning: str
    rows: int
    sample: list[str]

    @property
    def ok(self) -> bool:
        return self.rows == 0


INVARIANTS: tuple[Invariant, ...] = (
    Invariant("one_success", "an invoice is charged at most once", sql.ONE_SUCCESS),
    Invariant("one_live_attempt", "one live attempt per invoice", sql.ONE_LIVE_ATTEMPT),
    Invariant("paid_has_success", "a paid invoice has its money", sql.PAID_HAS_SUCCESS),
    Invariant("success_is_paid", "money received pays its invoice", sql.SUCCESS_IS_PAID),
    Invariant("amount_matches", "an attempt asks what its invoice says", sql.AMOUNT_MATCHES),
    Invariant("lines_add_up", "the lines of an invoice are its amount", sql.LINES_ADD_UP),
    Invariant("no_charge_after_end", "nothing is begun after the end", sql.NO_CHARGE_AFTER_END),
    Invariant("no_charge_after_hard", "hard-declined stays untouched", sql.NO_CHARGE_AFTER_HARD),
    Invariant("request_unchanged", "the stored bytes fit their hash", sql.REQUEST_UNCHANGED),
    Invariant("key_derived", "a key follows from its invoice and ordinal", sql.KEY_DERIVED),
    Invariant("rows_have_parents", "nothing hangs in the air", sql.ROWS_HAVE_PARENTS),
    Invariant("ordinals_gapless", "attempts are numbered from 1", sql.ORDINALS_GAPLESS),
    Invariant("renewal_not_forgotten", "who renews has a next date", sql.RENEWAL_NOT_FORGOTTEN),
    Invariant("renewal_on_time", "what is due is invoiced within 1 h", sql.RENEWAL_ON_TIME),
    Invariant("retry_on_time", "a due attempt is made within 1 h", sql.RETRY_ON_TIME),
    Invariant("invoice_not_forgotten", "open invoices have a next step", sql.INVOICE_NOT_FORGOTTEN),
    Invariant("nothing_stays_open", "no outcome is unknown for 20 h", sql.NOTHING_STAYS_OPEN),
    Invariant("periods_gapless", "periods neither overlap nor gap", sql.PERIODS_GAPLESS),
    Invariant("sequence_gapless", "messages are numbered without gap", sql.SEQUENCE_GAPLESS),
    Invariant("payment_was_told", "each paid invoice was told once", sql.PAYMENT_WAS_TOLD),
    Invariant("failure_was_told", "each failed attempt was told once", sql.FAILURE_WAS_TOLD),
    Invariant("outbox_flows", "no message waits longer than 5 min", sql.OUTBOX_FLOWS),
    Invariant("transitions_chain", "the history of a state has no jump", sql.TRANSITIONS_CHAIN),
    Invariant("transitions_legal", "every move stands in its table", sql.TRANSITIONS_LEGAL),
    Invariant("one_effect", "a platform message counts once", sql.ONE_EFFECT),
    Invariant("notice_once", "a notice is sent once", sql.NOTICE_ONCE),
    Invariant("no_late_notice", "no announcement after the end", sql.NO_LATE_NOTICE),
    Invariant("ledger_one_charge", "the gateway charged once", sql.LEDGER_ONE_CHARGE, True),
    Invariant("ledger_no_foreign", "every charge there is ours", sql.LEDGER_NO_FOREIGN, True),
    Invariant(
        "ledger_has_success", "our money is there, to the unit", sql.LEDGER_HAS_SUCCESS, True
    ),
    Invariant("ledger_no_lost", "no charge there is unknown to us", sql.LEDGER_NO_LOST, True),
)


WATCHED = frozenset(
    {
        "renewal_on_time",
        "retry_on_time",
        "invoice_not_forgotten",
        "nothing_stays_open",
        "outbox_flows",
    }
)
"""What a scheduler checks every few minutes, whatever the size of the book."""


async def watch(conn: Connection, *, now: datetime) -> Sequence[Verdict]:
    """The invariants of `WATCHED`."""
    return [await _judge(conn, one, now) for one in INVARIANTS if one.name in WATCHED]


async def check(conn: Connection, *, now: datetime, with_ledger: bool = False) -> Sequence[Verdict]:
    """Every invariant in order, of one snapshot; those of the ledger only if it was just imported."""
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        await sql.take_your_time(conn)
        return [
            await _judge(conn, invariant, now)
            for invariant in INVARIANTS
            if with_ledger or not invariant.needs_ledger
        ]


async def _judge(conn: Connection, invariant: Invariant, now: datetime) -> Verdict:
    rows, sample = await sql.count(conn, invariant.statement, now=now, sample=SAMPLE_SIZE)
    return Verdict(invariant.name, invariant.meaning, rows, sample)
