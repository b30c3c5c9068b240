"""Where settings come from, and the one line that says what is wrong with one of them."""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource

from worker.errors import SettingsError
from worker.settings_values import MASK, MaskedUrl, read_secret_file

PREFIX = "RENEWD_"
SECRETS = frozenset({"database_url", "amqp_url", "smtp_url", "gateways"})
"""Settings that hold secrets: RENEWD_X_FILE may name a file with the value of each."""

_OWN_KEYS = frozenset({"api_key", "refund_api_key"})
# Test runs have RENEWD_TEST_..., the sandbox of lab/ its own RENEWD_SANDBOX_...; Kubernetes sets
# NAME_SERVICE_HOST, NAME_PORT_5432_TCP_ADDR, ... in every pod for each service, and a service may
# well be called renewd.
_FOREIGN = re.compile(
    r"renewd_((test|sandbox)_.*|(.*_)?service_(host|port).*|(.*_)?port(_\d+_(tcp|udp).*)?)"
)


class RenewdVariables(PydanticBaseSettingsSource):
    """The RENEWD_ variables of `.env` and, before them, of the environment.

    Raises `SettingsError` for a RENEWD_ variable that is no setting, for `X` beside `X_FILE` and
    for a file that cannot be read.
    """

    def __init__(
        self, settings_cls: type[BaseSettings], *sources: PydanticBaseSettingsSource
    ) -> None:
        super().__init__(settings_cls)
        self._variables: dict[str, str] = {}
        for source in reversed(sources):
            if isinstance(source, EnvSettingsSource):
                self._variables |= self._of_renewd(source.env_vars)

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the text of one setting, or None."""
        del field
        return self._variables.get(PREFIX.lower() + field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the text of every setting that is set."""
        values: dict[str, str] = {}
        for variable, text in self._variables.items():
            name, from_file = self._field_of(variable)
            if name in values:
                both = f"{_env(name)} and {_env(name)}_FILE are both set: should be one of them"
                raise SettingsError(both)
            values[name] = self._read(name, text) if from_file else text
        return values

    def _of_renewd(self, variables: Mapping[str, str | None]) -> Iterator[tuple[str, str]]:
        for variable, text in variables.items():
            lowered = variable.lower()
            name = lowered.removeprefix(PREFIX.lower())
            known = name in self.settings_cls.model_fields
            if text and name != lowered and (known or not _FOREIGN.fullmatch(lowered)):
                yield lowered, text

    def _field_of(self, variable: str) -> tuple[str, bool]:
        name = variable.removeprefix(PREFIX.lower())
        if name in self.settings_cls.model_fields:
            return name, False
        if (secret := name.removesuffix("_file")) in SECRETS:
            return secret, True
        raise SettingsError(f"{_env(name)} is no setting of renewd{self._suggestion(name)}")

    def _suggestion(self, name: str) -> str:
        known = [*self.settings_cls.model_fields, *(f"{secret}_file" for secret in SECRETS)]
        close = difflib.get_close_matches(name, known, n=1)
        return f": did you mean {_env(close[0])}?" if close else ": see `renewd settings`"

    @staticmethod
    def _read(name: str, path: str) -> str:
        try:
            return read_secret_file(path)
        except ValueError as error:
            raise SettingsError(f"{_env(name)}_FILE {error}") from None


def first_error(error: ValidationError) -> str:
    """Return pydantic's first error as a line: variable, value (masked if secret), expectation."""
    first = error.errors(include_url=False)[0]
    field, *inner = [str(part) for part in first["loc"] if part != "[key]"]
    place = f"{_env(field)}: {'.'.join(inner)}" if inner else _env(field)
    expected = _expectation(first["msg"])
    if first["type"] == "missing":
        return f"{place} is missing"
    if first["type"] == "extra_forbidden":
        return f"{place} is no setting of a gateway"
    shown = _shown(field, inner, first["input"])
    return f"{place} is {shown}: {expected}" if shown else f"{place} {expected}"


def _shown(field: str, inner: list[str], given: object) -> str:
    """Return the wrong value for the error line; "" for one too big or perhaps secret."""
    if inner and inner[-1] in _OWN_KEYS:
        return MASK
    if isinstance(given, bool | int | float):
        return str(given)
    if not isinstance(given, str) or (field == "gateways" and not inner):
        return ""
    if field in SECRETS and not inner:
        return repr(MaskedUrl(given))
    return repr(given if len(given) <= 100 else given[:100] + "…")


def _expectation(message: str) -> str:
    text = message.removeprefix("Value error, ").removeprefix("Input ")
    text = text.replace("\n", " ")
    return text if text.startswith("should") else f"should be valid ({text})"


def _env(name: str) -> str:
    return PREFIX + name.upper()
