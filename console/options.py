"""Options that several verbs have, and what each verb does first."""

import logging
from typing import Annotated

import typer

from billing.events.screening import one_line
from worker.logs import configure_logging
from worker.settings import Settings, load_settings

LENGTH = 500

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Who = Annotated[
    str, typer.Option("--who", envvar="USER", help="Who does this; kept in the operator log.")
]


def _said(why: str) -> str:
    if not why.strip():
        raise typer.BadParameter("it is empty: should say why")
    return why


Why = Annotated[str, typer.Option("--why", help="Why; kept in the operator log.", callback=_said)]

UNKNOWN = "unknown"
"""Who did it, where neither `--who` nor $USER says."""


def configured(*require: str) -> Settings:
    """The settings, and logs as they say. Raises `SettingsError` if one of `require` is missing.

    A verb's logs are for finding out why it failed: less than a warning is shown only on DEBUG.
    """
    settings = load_settings(require=require)
    level = "WARNING" if settings.log_level == "INFO" else settings.log_level
    configure_logging(format=settings.log_format, level=level, process="renewd")
    if level != "DEBUG":
        # What the broker refuses we tell in a line of our own.
        logging.getLogger("pika").setLevel(logging.ERROR)
    return settings


def printable(text: str) -> str:
    """What a person typed, as one line without card numbers, for a log that is never changed."""
    return one_line(text, LENGTH)
