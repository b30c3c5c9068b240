"""What a run of the demo comes to: gathered from the database, checked against the gateway's ledger."""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from lab.demo.house import House
from lab.demo.ledger import Comparison, compare
from scheduler import invariants
from scheduler.invariants import Verdict
from scheduler.store import figures
from scheduler.store.figures import Counts, FirstDecline, Money, Notices, Recoveries
from worker.ledger_import import import_ledgers
from worker.store import control

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Summary:
    """A run in figures; amounts in minor units by currency."""

    counts: Counts
    money: Sequence[Money]
    first_declines: Sequence[FirstDecline]
    recoveries: Sequence[Recoveries]
    notices: Sequence[Notices]
    ledger: Comparison
    verdicts: Sequence[Verdict]
    messages_told: int
    messages_out_of_order: int
    mails: int
    mails_twice: int

    @property
    def broken(self) -> list[Verdict]:
        """The invariants that do not hold."""
        return [verdict for verdict in self.verdicts if not verdict.ok]

    @property
    def is_good(self) -> bool:
        """Whether everything that can be checked holds."""
        doubtful = self.messages_out_of_order or self.mails_twice or self.broken
        return self.ledger.agrees and not doubtful

    def recovered_by_attempt(self) -> Counter[int]:
        """Recovered invoices by the number of the attempt that was paid."""
        return _count((row.ordinal, row.invoices) for row in self.recoveries)

    def recovered_by_day(self) -> Counter[int]:
        """Recovered invoices by whole days from the first decline."""
        return _count((row.day, row.invoices) for row in self.recoveries)

    def recovered_by(self) -> Counter[str]:
        """Recovered invoices by what recovered them."""
        return _count((row.recovered_by, row.invoices) for row in self.recoveries)

    def to_json(self) -> dict[str, Any]:
        """Stable keys; outside programs rely on the first eight (and on `seconds` of the run)."""
        return {
            "subscriptions": self.counts.subscriptions,
            "renewals": self.counts.invoices,
            "first_declines": self.counts.first_declined,
            "recovered": self.counts.recovered,
            "lost": self.counts.lost,
            "revenue_minor": {row.currency: row.paid_minor for row in self.money},
            "recovered_minor": {row.currency: row.recovered_minor for row in self.money},
            "ledger_agrees": self.ledger.agrees,
            "in_dunning": self.counts.in_dunning,
            "canceled": self.counts.left,
            "first_declines_by_class": dict(self.declines_by_class()),
            "recovered_by": dict(self.recovered_by()),
            "recovered_by_attempt": dict(sorted(self.recovered_by_attempt().items())),
            "recovered_by_day": dict(sorted(self.recovered_by_day().items())),
            "charges": self.ledger.charges,
            "unexplained": self.ledger.unexplained,
            "notices_sent": self.mails,
            "messages_told": self.messages_told,
            "messages_out_of_order": self.messages_out_of_order,
            "invariants_broken": [verdict.name for verdict in self.broken],
        }

    def declines_by_class(self) -> Counter[str]:
        """Invoices that were declined first, by the class of that decline."""
        return _count((row.decline_class, row.invoices) for row in self.first_declines)


async def summarize(house: House) -> Summary:
    """Count everything, import the gateway's ledger, and check every invariant."""
    conn = house.conn
    now = await control.read_now(conn)
    await import_ledgers(conn, house.context.gateways, now=now)
    return Summary(
        counts=await figures.counts(conn),
        money=await figures.money(conn),
        first_declines=await figures.first_declines(conn),
        recoveries=await figures.recoveries(conn),
        notices=await figures.notices(conn),
        ledger=compare(house.sandbox.charges(), await figures.attempts(conn)),
        verdicts=await invariants.check(conn, now=now, with_ledger=True),
        messages_told=house.told.by_type.total(),
        messages_out_of_order=house.told.out_of_order,
        mails=house.mailbox.sent,
        mails_twice=house.mailbox.sent - len(house.mailbox.message_ids),
    )


def _count(pairs: Iterable[tuple[T, int]]) -> Counter[T]:
    counted: Counter[T] = Counter()
    for key, number in pairs:
        counted[key] += number
    return counted
