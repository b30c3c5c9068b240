"""Settings: where they come from, and the one line that says what is wrong with one."""

import json
from pathlib import Path

import pytest

from worker.settings import (
    SettingsError,
    load_settings,
)

DATABASE = "postgresql://renewd:hunter2@db:5432/renewd"
GATEWAY = {"adapter": "sandbox", "base_url": "http://sandbox:8080/", "api_key": "sk_hunter2"}


def gateways(**changes: object) -> str:
    return json.dumps({"main": GATEWAY | changes})


def complaint(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    with pytest.raises(SettingsError) as raised:
        load_settings()
    return str(raised.value)


def test_nothing_is_required_by_itself() -> None:
    """Without any variable every setting has its default, and the URLs are empty."""
    settings = load_settings()
    assert (settings.database_url, settings.amqp_url, settings.smtp_url) == ("", "", "")
    assert (settings.worker_threads, settings.batch_size, settings.log_format) == (6, 250, "auto")


def test_environment_comes_before_env_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A variable beats the same line of .env, an empty one does not count as set."""
    env_file = tmp_path / "env"
    env_file.write_text("RENEWD_WORKER_THREADS=4\nRENEWD_BATCH_SIZE=100\nRENEWD_LOG_LEVEL=debug\n")
    monkeypatch.setenv("RENEWD_WORKER_THREADS", "5")
    monkeypatch.setenv("RENEWD_BATCH_SIZE", "")
    settings = load_settings(env_file=str(env_file))
    assert settings.worker_threads == 5
    assert settings.batch_size == 100
    assert settings.log_level == "DEBUG"


def test_secrets_may_stand_in_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """RENEWD_X_FILE and api_key_file name files; one line break at the end is cut."""
    (tmp_path / "database").write_text(DATABASE + "\n")
    (tmp_path / "key").write_text("sk_file\n")
    monkeypatch.setenv("RENEWD_DATABASE_URL_FILE", str(tmp_path / "database"))
    given = {key: GATEWAY[key] for key in ("adapter", "base_url")}
    document = {"main": given | {"api_key_file": str(tmp_path / "key")}}
    monkeypatch.setenv("RENEWD_GATEWAYS", json.dumps(document))
    settings = load_settings()
    assert settings.database_url == DATABASE
    assert settings.gateways["main"].api_key.get_secret_value() == "sk_file"


def test_gateways_are_read_from_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """RENEWD_GATEWAYS maps names to gateways; what is not said has its default."""
    monkeypatch.setenv("RENEWD_GATEWAYS", gateways(max_per_second=50))
    gateway = load_settings().gateways["main"]
    assert gateway.base_url == "http://sandbox:8080"
    assert (gateway.max_per_second, gateway.key_lifetime_hours, gateway.try_seconds) == (50, 24, 9)


# Each row: the variable, its wrong value, and the whole line a person sees.
WRONG = [
    ("WORKER_THREADS", "65", "is '65': should be less than or equal to 64"),
    ("BATCH_SIZE", "0", "is '0': should be greater than or equal to 1"),
    (
        "METRICS_PORT",
        "http",
        "is 'http': should be a valid integer, unable to parse string as an integer",
    ),
    ("QUEUE_TYPE", "lazy", "is 'lazy': should be 'classic' or 'quorum'"),
    ("LOG_LEVEL", "loud", "is 'LOUD': should be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
    (
        "DATABASE_URL",
        "mysql://renewd:hunter2@db/renewd?password=hunter2",
        (
            "is 'mysql://renewd:***@db/renewd': "
            "should be a URL like postgresql://user:password@host:5432/database"
        ),
    ),
    (
        "DATABASE_URL",
        "hunter2",
        "is '***': should be a URL like postgresql://user:password@host:5432/database",
    ),
    (
        "AMQP_URL",
        "amqp://renewd:hunter2@mq:0/",
        "is 'amqp://renewd:***@mq:0/': should be a URL like amqp://user:password@host:5672/vhost",
    ),
    (
        "AMQP_URL",
        "amqp://renewd@mq/",
        "is 'amqp://renewd@mq/': should be a URL like amqp://user:password@host:5672/vhost",
    ),
    (
        "SMTP_URL",
        "mail.example:25",
        "is '***': should be a URL like smtp://user:password@host:587?starttls=true",
    ),
    (
        "MAIL_FROM",
        "nobody",
        "is 'nobody': should be an address like Billing <billing@school.example>",
    ),
    (
        "GATEWAYS",
        "{hunter2",
        (
            "should be a JSON object, but Expecting property name enclosed in double quotes: "
            "line 1 column 2 (char 1)"
        ),
    ),
    ("GATEWAYS", "[]", "should be a JSON object: name -> {adapter, base_url, api_key}"),
    ("GATEWAYS", gateways(adapter="paypal"), ": main.adapter is 'paypal': should be 'sandbox'"),
    ("GATEWAYS", gateways(api_key=5), ": main.api_key is ***: should be a valid string"),
    ("GATEWAYS", gateways(api_key=""), ": main.api_key is ***: should not be empty"),
    ("GATEWAYS", gateways(max_per_second=0), ": main.max_per_second is 0: should be greater"),
    ("GATEWAYS", gateways(max_per_sec=9), ": main.max_per_sec is no setting of a gateway"),
    (
        "GATEWAYS",
        gateways(api_key_file="/key"),
        ": main should have either api_key or api_key_file",
    ),
    (
        "GATEWAYS",
        gateways(refund_api_key="sk_hunter2"),
        ": main should have a refund_api_key that differs from its api_key",
    ),
    (
        "GATEWAYS",
        '{"main": {"adapter": "sandbox", "base_url": "http://h"}}',
        ": main.api_key is missing",
    ),
    (
        "DATABASE_URL_FILE",
        "/nowhere",
        " should name a readable file, but /nowhere: No such file or directory",
    ),
    ("DATABSE_URL", DATABASE, "is no setting of renewd: did you mean RENEWD_DATABASE_URL?"),
    ("XYZZY", "1", "is no setting of renewd: see `renewd settings`"),
]


@pytest.mark.parametrize(("name", "text", "line"), WRONG)
def test_wrong_setting_is_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, line: str
) -> None:
    """A wrong setting is named with its value, masked if secret, and what it should be."""
    found = complaint(monkeypatch, **{f"RENEWD_{name}": text})
    assert found.startswith(f"RENEWD_{name}{'' if line[0] in ': ' else ' '}{line}")
    assert "\n" not in found
    assert "hunter2" not in found


def test_value_and_file_exclude_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two places for one secret are refused: nobody should guess which one counts."""
    line = complaint(monkeypatch, RENEWD_AMQP_URL="amqp://mq", RENEWD_AMQP_URL_FILE="/etc/hosts")
    assert line == "RENEWD_AMQP_URL and RENEWD_AMQP_URL_FILE are both set: should be one of them"


def test_missing_setting_is_one_line() -> None:
    """A process names what it cannot do without."""
    with pytest.raises(SettingsError) as raised:
        load_settings(require=["database_url", "amqp_url"])
    assert str(raised.value) == "RENEWD_DATABASE_URL is missing: should be the Postgres database"
    assert raised.value.exit_code == 2


def test_mail_has_a_sender_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mail server is enough to send notices."""
    monkeypatch.setenv("RENEWD_SMTP_URL", "smtp://mail:25")
    assert load_settings().mail_from == "billing@localhost"
