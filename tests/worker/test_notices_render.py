import dataclasses
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import jinja2
import pytest
from babel import Locale

from billing.money import EXPONENTS, Money
from billing.notices import NoticeKind
from worker.notices import locales, render
from worker.notices.channel import Rendered
from worker.notices.letters import Letter

NOTICE, INSTALLATION = UUID(int=1), UUID(int=2)
LETTER = Letter(
    notice_id=NOTICE,
    kind=NoticeKind.UPCOMING_RENEWAL,
    to="ana@example.org",
    locale="de-DE",
    zone="Europe/Berlin",
    customer_name="Ana Souza",
    seller_name="Northwind Academy",
    plan_name="Piano from Zero",
    amount=Money(123450, "EUR"),
    method_kind="card",
    method_brand="visa",
    trialing=False,
    renewal_at=datetime(2026, 3, 31, 22, 30, tzinfo=UTC),
    next_attempt_at=None,
    access_ends_at=None,
    context={"decline_code": "insufficient_funds"},
)


def rendered(**changes: Any) -> Rendered:
    return render.render(dataclasses.replace(LETTER, **changes), installation_id=INSTALLATION)


def failed(**changes: Any) -> Rendered:
    return rendered(kind=NoticeKind.PAYMENT_FAILED, **changes)


def test_an_announcement_names_plan_amount_date_and_card() -> None:
    """Text and HTML say the same: amount in the customer's locale, date in the customer's zone."""
    mail = rendered()
    assert mail.subject == "Piano from Zero renews on 1 April 2026"
    for body in (mail.text, mail.html):
        for said in ("Piano from Zero", "1.234,50\xa0€", "1 April 2026", "Visa card", "Ana Souza"):
            assert said in body
    assert mail.message_id == f"<{NOTICE}@{INSTALLATION}.renewd>"
    assert mail.sender_name == "Northwind Academy"


def test_the_end_of_a_trial_is_called_so() -> None:
    """The first charge after a trial is not a renewal to the customer."""
    mail = rendered(trialing=True)
    assert mail.subject == "Your trial of Piano from Zero ends on 1 April 2026"
    assert "your subscription begins" in mail.text


def test_nothing_to_pay_is_said() -> None:
    """A free period announces no charge."""
    mail = rendered(amount=Money(0, "EUR"))
    assert "There is nothing to pay this time" in mail.text
    assert "We will charge" not in mail.text + mail.html


def test_a_failed_payment_says_why_and_what_happens_next() -> None:
    """With a retry ahead its day is named, and until when access lasts."""
    mail = failed(
        next_attempt_at=datetime(2026, 4, 3, 12, tzinfo=UTC),
        access_ends_at=datetime(2026, 4, 28, 12, tzinfo=UTC),
    )
    for body in (mail.text, mail.html):
        assert "There was not enough money available for the payment." in body
        assert "We will try again on 3 April 2026" in body or "we will try again" in body
        assert "28 April 2026" in body


def test_without_a_retry_the_customer_is_asked_to_act() -> None:
    """No day is promised."""
    mail = failed()
    for body in (mail.text, mail.html):
        assert "update your payment details" in body
        assert "try again on" not in body


@pytest.mark.parametrize("code", ["stolen_card", "lost_card", "pickup_card", "fraudulent"])
def test_a_payer_never_learns_that_a_card_is_known_as_stolen(code: str) -> None:
    """Such codes read like any other decline, and no code is shown at all."""
    mail = failed(context={"decline_code": code})
    assert mail.text == failed(context={"decline_code": "do_not_honor"}).text
    assert code not in mail.html


def test_html_shows_what_people_typed_as_text() -> None:
    """Names are escaped in HTML, wherever a macro puts them, and left alone in plain text."""
    wicked = '<script>alert("x")</script>'
    mail = rendered(customer_name=wicked, seller_name=wicked, plan_name=wicked)
    assert "<script>" not in mail.html
    assert "&lt;script&gt;" in mail.html
    assert wicked in mail.text


def test_headers_hold_no_line_breaks() -> None:
    """A plan or seller with line breaks in its name cannot start a header of its own."""
    mail = rendered(plan_name="Piano\r\nBcc: x@example.org", seller_name="A\nB\u2028C\x00D")
    assert mail.subject == "Piano Bcc: x@example.org renews on 1 April 2026"
    assert mail.sender_name == "A B C D"


def test_a_subject_is_not_endless() -> None:
    """Names may have thousands of characters."""
    assert len(rendered(plan_name="x" * 10_000).subject) == render.SUBJECT_LIMIT


@pytest.mark.parametrize(
    "locale", [None, "xx-YY", "../../etc/passwd", "de-DE", "pt_br", "zh-Hant-TW"]
)
def test_an_unknown_language_falls_back_to_english(locale: str | None) -> None:
    """Whatever the platform told, there is a mail."""
    mail = rendered(locale=locale)
    assert mail.language == "en"
    assert "renews on" in mail.subject


def test_a_language_is_found_by_its_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The most special one wins; a language needs templates only."""
    available = {"en", "pt", "pt_BR", "zh_Hant"}
    found = {
        tag: locales.language_of(tag, available)
        for tag in ("pt-br", "pt-PT", "zh-Hant-TW", "zh-CN", "de")
    }
    assert found == {
        "pt-br": "pt_BR",
        "pt-PT": "pt",
        "zh-Hant-TW": "zh_Hant",
        "zh-CN": "en",
        "de": "en",
    }


def test_a_new_language_is_a_directory(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three files make a kind in another language; nothing else has to know."""
    root = tmp_path_factory.mktemp("templates")
    (root / "pt").mkdir()
    for part in ("subject", "txt", "html"):
        (root / "pt" / f"upcoming_renewal.{part}.j2").write_text(
            "Renova em {{ day(letter.renewal_at) }}"
        )
    monkeypatch.setattr(render, "TEMPLATES", root)
    for cached in (render._languages_of, render._html, render._text):
        cached.cache_clear()
        monkeypatch.setattr(render, cached.__name__, cached.__wrapped__)
    mail = rendered(locale="pt-BR")
    assert (mail.language, mail.subject) == ("pt", "Renova em 1 de abril de 2026")


def test_a_template_that_names_what_is_missing_fails() -> None:
    """A gap in a mail would be worse than no mail."""
    with pytest.raises(jinja2.UndefinedError):
        failed(context={})


@pytest.mark.parametrize(
    ("money", "tag", "shown"),
    [
        (Money(123456, "USD"), "en-US", "$1,234.56"),
        (Money(500, "JPY"), "ja-JP", "￥500"),
        (Money(1234, "KWD"), "en", "KWD\xa01.234"),
        (Money(4990, "BRL"), "pt-BR", "R$\xa049,90"),
        # CLDR says no digits, ISO 4217 says two: 123456 minor units are 1,234.56.
        (Money(123456, "IRR"), "en", "IRR\xa01,234.56"),
        (Money(123456, "INR"), "en-IN", "₹1,234.56"),
    ],
)
def test_amounts_have_the_digits_of_iso_4217(money: Money, tag: str, shown: str) -> None:
    """The grouping and the sign are the locale's, the digits after the point the currency's."""
    assert locales.format_amount(money, locales.locale_of(tag)) == shown


def test_every_currency_can_be_shown_in_every_direction() -> None:
    """No currency of our table breaks a mail, in Latin or Arabic."""
    for tag in ("en", "ar-EG", "fa-IR"):
        for currency in EXPONENTS:
            assert locales.format_amount(Money(1, currency), locales.locale_of(tag))


def test_right_to_left_amounts_are_isolated_in_plain_text() -> None:
    """Marks keep the digits of an Arabic reader's amount together inside English words."""
    amount = locales.format_amount(Money(1, "EUR"), Locale("ar"))
    assert locales.isolated(amount, Locale("ar")) == f"\u2068{amount}\u2069"
    assert locales.isolated("1", Locale("en")) == "1"
