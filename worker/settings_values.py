"""The kinds of values that settings hold: masked URLs and the declaration of a gateway."""

import json
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit, urlunsplit

import pika
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    field_validator,
    model_validator,
)

from worker import limits

MASK = "***"

_GATEWAY_SHAPE = "should be an object like {adapter, base_url, api_key}"
_GATEWAYS_SHAPE = "should be a JSON object: name -> {adapter, base_url, api_key}"


class MaskedUrl(str):
    """A URL with a password in it: a plain `str` to its library, masked in every repr.

    The empty URL means "not set".
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(self.masked())

    def masked(self) -> str:
        """Return the URL without its password and query (both may hold secrets)."""
        parts = urlsplit(self)
        if not parts.scheme or not parts.netloc:
            return MASK if self else ""
        userinfo, at, place = parts.netloc.rpartition("@")
        user, colon, _password = userinfo.partition(":")
        shown = f"{user}{colon and ':' + MASK}{at}{place}"
        return urlunsplit((parts.scheme, shown, parts.path, "", ""))


def read_secret_file(path: str) -> str:
    """Return the file's text without its last line break.

    Raises `ValueError` with a line that names the path, for a file that cannot be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise ValueError(f"should name a readable file, but {path}: {reason}") from None


def _is_url_of(schemes: tuple[str, ...], url: str) -> bool:
    try:
        parts = urlsplit(url)
        # A host may also stand in the query (a socket's directory). `.port` refuses what is none.
        return parts.scheme in schemes and bool(parts.hostname or parts.query) and parts.port != 0
    except ValueError:
        return False


def _url_of(*schemes: str, example: str) -> AfterValidator:
    def check(url: str) -> MaskedUrl:
        if url and not _is_url_of(schemes, url):
            raise ValueError(f"should be a URL like {example}")
        return MaskedUrl(url)

    return AfterValidator(check)


DatabaseUrl = Annotated[
    str, _url_of("postgresql", "postgres", example="postgresql://user:password@host:5432/database")
]
_AMQP_EXAMPLE = "amqp://user:password@host:5672/vhost"


def _check_amqp(url: str) -> str:
    try:
        if url:
            pika.URLParameters(url)
    except (ValueError, TypeError) as error:  # TypeError: a user without a password
        raise ValueError(f"should be a URL like {_AMQP_EXAMPLE}") from error
    return url


AmqpUrl = Annotated[
    str, _url_of("amqp", "amqps", example=_AMQP_EXAMPLE), AfterValidator(_check_amqp)
]
SmtpUrl = Annotated[
    str, _url_of("smtp", "smtps", example="smtp://user:password@host:587?starttls=true")
]


def _check_address(address: str) -> str:
    if address and not re.fullmatch(r"([^<>\r\n]*<)?[^<>@\s]+@[^<>@\s]+>?", address):
        raise ValueError("should be an address like Billing <billing@school.example>")
    return address


MailAddress = Annotated[str, AfterValidator(_check_address)]

LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR"],
    BeforeValidator(lambda level: level.upper() if isinstance(level, str) else level),
]


class QueueType(StrEnum):
    """How RabbitMQ keeps the doorbell queues; a queue that exists cannot change its type."""

    CLASSIC = "classic"
    QUORUM = "quorum"


class LogFormat(StrEnum):
    """`AUTO` is console on a terminal and JSON elsewhere."""

    JSON = "json"
    CONSOLE = "console"
    AUTO = "auto"


class Adapter(StrEnum):
    """The gateways renewd can speak to; each is a file in `worker/gateways/`."""

    SANDBOX = "sandbox"


class GatewaySettings(BaseModel):
    """One gateway: how to reach it, how fast it may be called, and what it promises."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    adapter: Adapter = Field(description="which code speaks to it", json_schema_extra={"unit": ""})
    base_url: str = Field(description="where it answers", json_schema_extra={"unit": "URL"})
    api_key: SecretStr = Field(
        description="key that may charge and read; or `api_key_file`",
        json_schema_extra={"unit": ""},
    )
    refund_api_key: SecretStr | None = Field(
        None,
        description="key that may refund; without it refunds are proposals for people",
        json_schema_extra={"unit": ""},
    )
    max_per_second: int = Field(
        1000, ge=1, description="pace of charges", json_schema_extra={"unit": "charges/s"}
    )
    key_lifetime_hours: int = Field(
        24,
        ge=1,
        description="how long it knows an idempotency key",
        json_schema_extra={"unit": "h"},
    )
    lookup_lag_seconds: int = Field(
        900, ge=0, description="how far its look-ups lag behind", json_schema_extra={"unit": "s"}
    )
    max_delivery_delay_minutes: int = Field(
        60, ge=0, description="latest a request can arrive", json_schema_extra={"unit": "min"}
    )
    try_seconds: float = Field(
        limits.TRY_SECONDS,
        gt=0,
        allow_inf_nan=False,
        description="time of one network try",
        json_schema_extra={"unit": "s"},
    )

    @model_validator(mode="before")
    @classmethod
    def _read_key_files(cls, given: object) -> object:
        if not isinstance(given, dict):
            raise ValueError(_GATEWAY_SHAPE)  # noqa: TRY004 - pydantic expects it
        read = dict(given)
        for key in ("api_key", "refund_api_key"):
            if (path := read.pop(f"{key}_file", None)) is None:
                continue
            if key in read:
                raise ValueError(f"should have either {key} or {key}_file")
            read[key] = read_secret_file(str(path))
        return read

    @field_validator("base_url")
    @classmethod
    def _check_base_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
            raise ValueError("should be a URL like https://gateway.example, without a password")
        return url.rstrip("/")

    @field_validator("api_key", "refund_api_key")
    @classmethod
    def _check_key(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and not key.get_secret_value().strip():
            raise ValueError("should not be empty")
        return key

    @model_validator(mode="after")
    def _check_separate_keys(self) -> Self:
        if self.refund_api_key is not None and self.refund_api_key == self.api_key:
            raise ValueError("should have a refund_api_key that differs from its api_key")
        return self


def _decode_gateways(given: object) -> Any:
    if not isinstance(given, str):
        return given
    try:
        decoded = json.loads(given)
    except ValueError as error:
        raise ValueError(f"should be a JSON object, but {error}") from None
    if not isinstance(decoded, dict):
        raise ValueError(_GATEWAYS_SHAPE)  # noqa: TRY004 - as above
    return decoded


GatewayName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Gateways = Annotated[dict[GatewayName, GatewaySettings], BeforeValidator(_decode_gateways)]
"""Name -> settings. A name is a metrics label and what the platform writes into payment methods."""
