"""From a letter to the words of a mail: Jinja2 templates by language and kind.

`templates/<language>/<kind>.{subject,txt,html}.j2`: a new kind or language is three more files. A
template that names what a letter has not fails instead of leaving a gap. Text and HTML have an
environment each, because a macro escapes as its own environment does, whoever calls it.
"""

from functools import cache, partial
from pathlib import Path
from uuid import UUID

import jinja2

from billing.declines import payer_reason
from billing.money import Money
from worker.notices import locales
from worker.notices.channel import Rendered
from worker.notices.letters import Letter

TEMPLATES = Path(__file__).parent / "templates"
SUBJECT_LIMIT = 150


def render(letter: Letter, *, installation_id: UUID) -> Rendered:
    """Put a letter into words. Raises `jinja2.TemplateError` for a template that is wrong or missing.

    Language and formats follow the letter's locale and fall back to English.
    """
    language = locales.language_of(letter.locale, _languages_of(letter.kind))
    name = f"{language}/{letter.kind}"
    values = _values(letter, language)
    subject = one_line(_text().get_template(f"{name}.subject.j2").render(values))
    values["subject"] = subject
    return Rendered(
        message_id=f"<{letter.notice_id}@{installation_id}.renewd>",
        language=language.replace("_", "-"),
        sender_name=one_line(letter.seller_name),
        subject=subject,
        text=_text().get_template(f"{name}.txt.j2").render(values),
        html=_html().get_template(f"{name}.html.j2").render(values),
    )


def one_line(text: str) -> str:
    """For headers: no line breaks or other controls, and not endless."""
    printable = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(printable.split())[:SUBJECT_LIMIT]


def _values(letter: Letter, language: str) -> dict[str, object]:
    reader = locales.locale_of(letter.locale)
    prose = locales.prose_locale(language, letter.locale)

    def money(amount: Money) -> str:
        return locales.isolated(locales.format_amount(amount, reader), reader)

    return {
        "letter": letter,
        "language": language.replace("_", "-"),
        "direction": prose.text_direction,
        "money": money,
        "day": partial(locales.format_day, locale=prose, zone=letter.zone),
        "payer_reason": payer_reason,
    }


@cache
def _languages_of(kind: str) -> frozenset[str]:
    return frozenset(path.parent.name for path in TEMPLATES.glob(f"*/{kind}.subject.j2"))


@cache
def _html() -> jinja2.Environment:
    return _environment(autoescape=True)


@cache
def _text() -> jinja2.Environment:
    return _environment(autoescape=False)


def _environment(*, autoescape: bool) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=autoescape,  # noqa: S701 - off for plain text only
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
