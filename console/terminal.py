"""What a verb prints: one line of JSON for programs, or text for people.

Text for people is plain when it goes into a file or a pipe, and coloured and folded on a terminal.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeAlias

from rich.console import Console
from rich.table import Table
from rich.text import Text

from billing.messages import rfc3339

GAP = 2
LAST_WIDTH = 32


class Style(StrEnum):
    """Colours by meaning."""

    GOOD = "green"
    BAD = "bold red"
    QUIET = "dim"
    LOUD = "bold"
    PLAIN = ""


Cell: TypeAlias = str | tuple[str, Style]
Row: TypeAlias = Sequence[Cell]


def print_json(document: Mapping[str, object]) -> None:
    """One object on one line; instants are RFC 3339 in UTC."""
    print(json.dumps(document, ensure_ascii=False, separators=(", ", ": "), default=_plain))


def print_line(text: str, style: Style = Style.PLAIN) -> None:
    """One line of text."""
    _console().print(Text(text, style=style), soft_wrap=True)


def print_rows(rows: Sequence[Row], *, whole: int) -> None:
    """Rows in aligned columns; on a terminal that is too narrow, all but the first `whole` fold."""
    if not rows:
        return
    if not sys.stdout.isatty():
        _print_plain([[_text(cell) for cell in row] for row in rows])
        return
    table = Table.grid(padding=(0, GAP, 0, 0))
    last = len(rows[0]) - 1
    for n in range(last + 1):
        least = LAST_WIDTH if n == last else None
        table.add_column(no_wrap=n < whole, overflow="fold", min_width=least)
    for row in rows:
        table.add_row(*(_styled(cell) for cell in row))
    _console().print(table)


def heading(*words: str) -> Row:
    """The first of some rows."""
    return [(word, Style.LOUD) for word in words]


def print_verdict(name: str, detail: str, *, good: bool, width: int) -> None:
    """One line that says whether something is as it should be; `width` is that of the names."""
    mark = Text("ok  ", style=Style.GOOD) if good else Text("BAD ", style=Style.BAD)
    _console().print(mark, Text(f"{name:<{width}} "), Text(detail), sep="", soft_wrap=True)


def when(at: datetime | None) -> str:
    """An instant as people read it, always UTC; `-` for none."""
    if at is None:
        return "-"
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _console() -> Console:
    return Console(highlight=False, markup=False, emoji=False)


def _print_plain(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    for row in rows:
        padded = [text.ljust(width + GAP) for text, width in zip(row, widths, strict=True)]
        print("".join(padded).rstrip())


def _text(cell: Cell) -> str:
    text = cell if isinstance(cell, str) else cell[0]
    return " ".join(text.split())


def _styled(cell: Cell) -> Text:
    return Text(_text(cell), style="" if isinstance(cell, str) else cell[1])


def _plain(value: object) -> str:
    return rfc3339(value) if isinstance(value, datetime) else str(value)
