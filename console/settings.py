"""`renewd settings`: every setting with its value here, default, unit and meaning."""

import json

import typer
from pydantic import SecretStr

from console import terminal
from console.options import AsJson
from console.terminal import Row, Style
from worker.errors import SettingsError
from worker.settings import (
    MaskedUrl,
    SettingDescription,
    Settings,
    describe_settings,
    isolated_settings,
    load_settings,
)
from worker.settings_values import MASK

INNER = "gateways.*."

app = typer.Typer()


@app.command()
def settings(*, as_json: AsJson = False) -> None:
    """List every setting with its value.

    Also default, unit and meaning; secrets are masked. If one is wrong, the list shows defaults alone, and the error follows.
    """
    try:
        found, wrong = load_settings(), None
    except SettingsError as error:
        found, wrong = isolated_settings(), error
    lines = [(line, _value(found, line)) for line in describe_settings()]
    if as_json and wrong is None:
        terminal.print_json(
            {"settings": [line._asdict() | {"value": value} for line, value in lines]}
        )
    elif not as_json:
        _print(lines)
    if wrong is not None:
        raise wrong


def _print(lines: list[tuple[SettingDescription, str]]) -> None:
    head = terminal.heading("setting", "value", "unit", "meaning")
    terminal.print_rows([head, *(_row(line, value) for line, value in lines)], whole=1)


def _row(line: SettingDescription, value: str) -> Row:
    return [
        line.env,
        (value or "-", Style.QUIET if value == line.default else Style.GOOD),
        (line.unit, Style.QUIET),
        f"{line.meaning} (default {line.default})" if line.default else line.meaning,
    ]


def _value(found: Settings, line: SettingDescription) -> str:
    if line.name.startswith(INNER):
        inner = line.name.removeprefix(INNER)
        values = {name: _shown(getattr(g, inner)) for name, g in found.gateways.items()}
        return ", ".join(f"{name}={value}" for name, value in values.items() if value)
    return _shown(getattr(found, line.name))


def _shown(value: object) -> str:
    match value:
        case None:
            return ""
        case SecretStr():
            return MASK
        case MaskedUrl():
            return value.masked()
        case dict():
            return json.dumps(sorted(value)) if value else ""
        case _:
            return str(value)
