"""`renewd settings`: everything that can be set, and how it is set here."""

import json

import pytest

from tests.console.command import renewd_here
from worker.settings import describe_settings

DATABASE = "postgresql://renewd:hunter2@db:5432/renewd"
GATEWAY = {"adapter": "sandbox", "base_url": "http://sandbox:8080", "api_key": "sk_hunter2"}


def test_every_setting_is_listed_with_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON: name, variable, default, unit, meaning and the value that holds here."""
    monkeypatch.setenv("RENEWD_BATCH_SIZE", "100")
    listed = renewd_here("settings", "--json").json["settings"]
    assert [line["name"] for line in listed] == [line.name for line in describe_settings()]
    (batch,) = [line for line in listed if line["name"] == "batch_size"]
    assert batch == {
        "name": "batch_size",
        "env": "RENEWD_BATCH_SIZE",
        "default": "250",
        "unit": "rows",
        "meaning": "most rows per doorbell",
        "value": "100",
    }


def test_people_see_default_unit_and_meaning() -> None:
    """One line a setting, and nothing is left out."""
    ran = renewd_here("settings")
    assert len(ran.out.splitlines()) == len(describe_settings()) + 1
    for line in describe_settings():
        assert line.env in ran.out
        assert line.meaning in ran.out


def test_secrets_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No password and no key is printed, whatever way they are listed."""
    monkeypatch.setenv("RENEWD_DATABASE_URL", DATABASE)
    monkeypatch.setenv("RENEWD_GATEWAYS", json.dumps({"main": GATEWAY}))
    for arguments in (["settings"], ["settings", "--json"]):
        ran = renewd_here(*arguments)
        assert "hunter2" not in ran.out + ran.err
        assert "postgresql://renewd:***@db:5432/renewd" in ran.out
        assert "main=***" in ran.out


def test_a_wrong_setting_follows_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list is what one needs to mend it; the exit code is 2 all the same."""
    monkeypatch.setenv("RENEWD_BATCH_SIZE", "none")
    ran = renewd_here("settings")
    assert ran.code == 2
    assert "RENEWD_BATCH_SIZE" in ran.out
    assert ran.complaint.startswith("RENEWD_BATCH_SIZE is 'none': should be a valid integer")
