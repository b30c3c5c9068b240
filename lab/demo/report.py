"""The summary as a person enjoys reading it: a few tables and bars, widest 76 columns."""

from collections import Counter
from collections.abc import Iterable, Iterator

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from billing.money import Money, format_money
from lab.demo.summary import Summary

BAR_WIDTH = 40
WIDTH = 76
DAYS_SHOWN = 29
_GOOD, _BAD = "[green]✔[/]", "[bold red]✘[/]"


def show(summary: Summary, console: Console, *, months: int, seconds: float) -> None:
    """Print the whole summary."""
    counts = summary.counts
    title = f"{months} months of {counts.subscriptions:,} subscriptions, in {seconds:.0f} s"
    parts: list[RenderableType] = [
        _headline(summary),
        Text(),
        _declines(summary),
        Text(),
        _bars("recovered by attempt", _attempts(summary.recovered_by_attempt())),
        Text(),
        _bars("recovered by day after the first decline", _days(summary.recovered_by_day())),
        Text(),
        _money(summary),
        Text(),
        *(Text.from_markup(line) for line in _checks(summary)),
    ]
    console.print(Panel(Group(*parts), title=title, width=WIDTH, padding=(1, 2)))


def _headline(summary: Summary) -> Table:
    counts = summary.counts
    recovered_by = summary.recovered_by()
    means = ", ".join(f"{n:,} by {name}" for name, n in recovered_by.most_common())
    table = _table()
    table.add_column("what", style="bold")
    table.add_column("count", justify="right")
    table.add_column("more", style="dim")
    rows = (
        ("renewals", counts.invoices, "periods invoiced"),
        (
            "declined at first",
            counts.first_declined,
            _share(counts.first_declined, counts.invoices),
        ),
        (
            "recovered",
            counts.recovered,
            f"{_share(counts.recovered, counts.first_declined)}: {means}",
        ),
        ("still in dunning", counts.in_dunning, "when the time was over"),
        ("customers lost", counts.lost, "nobody paid until the window's end"),
        ("canceled", counts.left, "by themselves"),
        ("mails sent", summary.mails, "reminders and failed payments"),
        ("messages told", summary.messages_told, "to the platform"),
    )
    for what, count, more in rows:
        table.add_row(what, f"{count:,}", more)
    table.show_header = False
    return table


def _declines(summary: Summary) -> Table:
    table = _table()
    table.add_column("first decline", style="bold")
    table.add_column("code")
    table.add_column("invoices", justify="right")
    table.add_column("recovered", justify="right")
    last = ""
    rows = sorted(summary.first_declines, key=lambda row: (row.decline_class, -row.invoices))
    for row in rows:
        shown = "" if row.decline_class == last else row.decline_class
        share = f"{row.recovered:,} ({_share(row.recovered, row.invoices)})"
        table.add_row(shown, row.code, f"{row.invoices:,}", share)
        last = row.decline_class
    return table


def _money(summary: Summary) -> Table:
    table = _table()
    table.add_column("money", style="bold")
    table.add_column("revenue", justify="right")
    table.add_column("of it recovered", justify="right")
    table.add_column("share", justify="right")
    for row in summary.money:
        table.add_row(
            row.currency,
            _amount(row.paid_minor, row.currency),
            _amount(row.recovered_minor, row.currency),
            _share(row.recovered_minor, row.paid_minor),
        )
    return table


def _bars(title: str, rows: Iterable[tuple[str, int]]) -> Group:
    counted = list(rows)
    most = max((count for _, count in counted), default=0)
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", min_width=6)
    table.add_column(width=BAR_WIDTH)
    table.add_column(justify="right")
    for label, count in counted:
        table.add_row(label, Text(_bar(count, most), style="cyan"), f"{count:,}")
    return Group(Text(title, style="bold"), table)


def _bar(count: int, most: int) -> str:
    """Eighths of a character, so that small numbers still show."""
    eighths = -(-8 * BAR_WIDTH * count // most) if most else 0
    whole, rest = divmod(eighths, 8)
    return "█" * whole + " ▏▎▍▌▋▊▉"[rest].strip()


def _attempts(recovered: Counter[int]) -> Iterator[tuple[str, int]]:
    for ordinal in range(1, max(recovered, default=0) + 1):
        if recovered[ordinal]:
            yield f"no. {ordinal}", recovered[ordinal]


def _days(recovered: Counter[int]) -> Iterator[tuple[str, int]]:
    for day in range(max(recovered, default=-1) + 1):
        if recovered[day]:
            yield f"day {day}", recovered[day]


def _checks(summary: Summary) -> Iterator[str]:
    ledger = summary.ledger
    verb = "agrees" if ledger.agrees else "does not agree"
    line = (
        f"gateway ledger {verb}: {ledger.charges:,} charges, {len(ledger.unexplained)} unexplained"
    )
    yield f"{_mark(ledger.agrees)} {line}"
    yield from (f"    {text}" for text in ledger.unexplained[:5])
    broken = summary.broken
    held = len(summary.verdicts) - len(broken)
    yield f"{_mark(not broken)} invariants: {held} of {len(summary.verdicts)} hold"
    yield from (f"    {v.name}: {v.rows} rows, {v.meaning}" for v in broken)
    gaps = summary.messages_out_of_order
    yield f"{_mark(not gaps)} messages of each subscription in order, {gaps} gaps"
    yield f"{_mark(not summary.mails_twice)} mails: {summary.mails_twice} sent twice"


def _mark(good: object) -> str:
    return _GOOD if good else _BAD


def _amount(amount_minor: int, currency: str) -> str:
    """`165,300.00 EUR`: as `format_money`, in groups of three."""
    number, _, code = format_money(Money(amount_minor, currency)).partition(" ")
    whole, point, rest = number.partition(".")
    return f"{int(whole):,}{point}{rest} {code}"


def _share(part: int, whole: int) -> str:
    """A percentage with one decimal, in integers: money comes by here."""
    permille = 0 if not whole else (2000 * part + whole) // (2 * whole)
    return f"{permille // 10}.{permille % 10} %"


def _table() -> Table:
    return Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
