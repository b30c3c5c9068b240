"""`renewd explain`: the whole story of one subscription, and what is next."""

import asyncio
from typing import Annotated

import typer

from console import terminal
from console.database import connected
from console.options import AsJson, configured
from console.outlook import Next, outlook
from console.story import Story, read_story
from console.terminal import Row, Style, when
from console.timeline import Event, timeline
from worker.errors import UsageError
from worker.settings import Settings

app = typer.Typer()

GOOD = ("_succeeded", "_paid", "_active")
BAD = ("_declined", "_past_due", "_unpaid", "_uncollectible", "_canceled", "_expired", "parked")


@app.command()
def explain(
    *,
    subscription: Annotated[str, typer.Argument(metavar="SUBSCRIPTION")],
    as_json: AsJson = False,
) -> None:
    """Tell the whole story of a subscription.

    All that happened, in order, and what is next and why then.
    """
    settings = configured("database_url")
    story = asyncio.run(_read(settings, subscription))
    events, coming = timeline(story), outlook(story)
    if as_json:
        terminal.print_json(_as_json(story, events, coming))
    else:
        _print(story, events, coming)


async def _read(settings: Settings, subscription_id: str) -> Story:
    async with connected(settings) as conn:
        story = await read_story(conn, subscription_id)
    if story is None:
        raise UsageError(
            f"subscription {subscription_id!r} is not known: should be one that exists"
        )
    return story


def _as_json(story: Story, events: list[Event], coming: Next) -> dict[str, object]:
    return {
        "subscription_id": story.subscription.subscription_id,
        "status": story.subscription.status,
        "timeline": [{"at": e.at, "what": e.what, "detail": e.detail} for e in events],
        "next": coming._asdict(),
        "platform_events_complete": story.taken is not None,
    }


def _print(story: Story, events: list[Event], coming: Next) -> None:
    subscription = story.subscription
    headline = f"{subscription.subscription_id} is {subscription.status}"
    terminal.print_line(f"{headline}, {_period(story)}", Style.LOUD)
    terminal.print_line("")
    terminal.print_rows([_row(event) for event in events], whole=2)
    if story.taken is None:
        terminal.print_line("the platform's messages are too many to look through", Style.QUIET)
    terminal.print_line("")
    at = f" at {when(coming.at)}" if coming.at else ""
    due = " (due now)" if coming.at and coming.at <= story.now else ""
    terminal.print_line(f"next: {coming.what}{at}{due}: {coming.why}", Style.LOUD)


def _period(story: Story) -> str:
    start, end = story.subscription.current_period_start, story.subscription.current_period_end
    if end is None:
        return "no period is paid yet"
    if start is None:
        return f"paid until {when(end)}"
    return f"paid from {when(start)} to {when(end)}"


def _row(event: Event) -> Row:
    return [(when(event.at), Style.QUIET), (event.what, _style(event.what)), event.detail]


def _style(what: str) -> Style:
    if what.endswith(GOOD):
        return Style.GOOD
    if what.endswith(BAD):
        return Style.BAD
    return Style.QUIET if what in ("message_told", "notice_scheduled") else Style.PLAIN
