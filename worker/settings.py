"""The settings of renewd: environment variables RENEWD_..., `.env`, and RENEWD_..._FILE for
secrets.

`load_settings` is the only reader of the environment. Precedence: environment, `.env`, default; a
variable `RENEWD_X_FILE` names a file that holds the value of the secret `RENEWD_X`. A RENEWD_
variable that is no setting is refused, because a typing error in a billing daemon must not fall
back to a default.
"""

from collections.abc import Collection
from typing import Annotated, Any, NamedTuple

from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from worker import limits
from worker.errors import SettingsError
from worker.settings_sources import PREFIX, RenewdVariables, first_error
from worker.settings_values import (
    AmqpUrl,
    DatabaseUrl,
    Gateways,
    GatewaySettings,
    LogFormat,
    LogLevel,
    MailAddress,
    MaskedUrl,
    QueueType,
    SmtpUrl,
)

__all__ = [
    "GatewaySettings",
    "MaskedUrl",
    "SettingDescription",
    "Settings",
    "SettingsError",
    "describe_settings",
    "isolated_settings",
    "load_settings",
]

METRICS_PORTS = {"scheduler": 9461, "worker": 9462, "platform": 9463, "sandbox": 9464}


def _setting(default: object, unit: str, meaning: str, **bounds: Any) -> Any:
    return Field(default, description=meaning, json_schema_extra={"unit": unit}, **bounds)


class Settings(BaseSettings):
    """All settings of all processes. An empty URL means "not set"."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    database_url: DatabaseUrl = _setting(MaskedUrl(), "URL", "the Postgres database")
    amqp_url: AmqpUrl = _setting(MaskedUrl(), "URL", "the RabbitMQ broker and vhost")
    gateways: Annotated[Gateways, NoDecode] = _setting({}, "JSON", "the gateways by name")
    smtp_url: SmtpUrl = _setting(
        MaskedUrl(), "URL", "the mail server (smtps, or ?starttls=true); none: no notice is sent"
    )
    mail_from: MailAddress = _setting("billing@localhost", "address", "sender of all notices")

    metrics_host: str = _setting("127.0.0.1", "address", "where /metrics and /healthz listen")
    metrics_port: int | None = _setting(
        None,
        "port",
        "port of /metrics and /healthz; 0 is a free one (default: scheduler 9461, worker 9462, "
        "platform 9463, sandbox 9464; a taken one moves to the next free)",
        ge=0,
        le=65535,
    )
    log_format: LogFormat = _setting(
        LogFormat.AUTO, "", "json, console, or auto: console on a terminal"
    )
    log_level: LogLevel = _setting("INFO", "", "least level that is logged")

    db_pool_size: int = _setting(10, "connections", "database pool of a process", ge=1, le=200)
    statement_timeout_seconds: int = _setting(
        limits.STATEMENT_TIMEOUT_SECONDS, "s", "longest time of a statement", ge=1
    )
    queue_type: QueueType = _setting(
        QueueType.CLASSIC, "", "classic or quorum: kind of the doorbell queues when they are made"
    )
    amqp_heartbeat_seconds: int = _setting(
        30, "s", "heartbeat and longest blocking of the broker connection", ge=5, le=600
    )

    worker_threads: int = _setting(
        6, "batches", "batches in work at once per worker; 4 to 8 are sensible", ge=1, le=64
    )
    batch_size: int = _setting(
        250, "rows", "most rows per doorbell", ge=1, le=limits.BATCH_SIZE_MAX
    )
    settle_group: int = _setting(
        limits.SETTLE_GROUP, "rows", "most outcomes per commit", ge=1, le=limits.BATCH_SIZE_MAX
    )
    settle_interval_ms: int = _setting(
        limits.SETTLE_INTERVAL_MS, "ms", "longest wait of an outcome for its commit", ge=1, le=1000
    )

    sweep_period_seconds: float = _setting(
        1.0, "s", "time between two looks at what is due", ge=0.05, le=60
    )
    census_period_seconds: float = _setting(
        15.0, "s", "time between two counts for metrics", ge=1, le=600
    )
    max_outstanding: int = _setting(
        16, "batches", "doorbells waiting in a queue at which sweeps pause", ge=1, le=1000
    )
    lease_seconds: int = _setting(
        limits.LEASE_SECONDS, "s", "how long a claimed row stays hidden", ge=1
    )
    unsettled_seconds: int = _setting(
        limits.UNSETTLED_SECONDS, "s", "age at which an attempt without outcome is looked at", ge=1
    )

    platform_batch: int = _setting(
        200, "messages", "platform messages per transaction", ge=1, le=1000
    )
    platform_flush_ms: int = _setting(
        50, "ms", "longest wait of a platform message for its batch", ge=1, le=5000
    )
    relay_batch: int = _setting(
        500, "messages", "messages out per round of confirms", ge=1, le=5000
    )
    rejected_after_hours: int = _setting(
        24, "h", "wait of a message that names something unknown, before it is rejected", ge=1
    )
    reminders_late_hours: int = _setting(
        24, "h", "a notice later than this is dropped and recorded", ge=1
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read environment and `.env` through one source, which knows `_FILE` and typos."""
        del file_secret_settings
        return init_settings, RenewdVariables(settings_cls, env_settings, dotenv_settings)

    def metrics_port_of(self, process: str) -> int:
        """Return the port `process` should try first; 0 means any free one."""
        if self.metrics_port is not None:
            return self.metrics_port
        return METRICS_PORTS.get(process, 0)


class _IsolatedSettings(Settings):
    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)


class SettingDescription(NamedTuple):
    """A line of `renewd settings`. `name` is the field (`gateways.*.x` inside RENEWD_GATEWAYS)."""

    name: str
    env: str
    default: str
    unit: str
    meaning: str


def load_settings(*, env_file: str | None = ".env", require: Collection[str] = ()) -> Settings:
    """Read the settings from the environment and `env_file` (which may be missing).

    `require` names fields that must be set. Raises `SettingsError`: one line that names the
    variable, its value (masked if secret) and what it should be.
    """
    try:
        settings = Settings(_env_file=env_file)  # type: ignore[call-arg]
    except ValidationError as error:
        raise SettingsError(first_error(error)) from None
    for name in require:
        if not getattr(settings, name):
            field = Settings.model_fields[name]
            raise SettingsError(f"{_env(name)} is missing: should be {field.description}")
    return settings


def isolated_settings(**values: object) -> Settings:
    """Return settings made of `values` and defaults alone, for the demo and for tests."""
    try:
        return _IsolatedSettings(**values)  # type: ignore[arg-type]
    except ValidationError as error:
        raise SettingsError(first_error(error)) from None


def describe_settings() -> list[SettingDescription]:
    """Return every setting, those inside RENEWD_GATEWAYS included, in the order of this file."""
    lines: list[SettingDescription] = []
    for name, field in Settings.model_fields.items():
        lines.append(_describe(name, _env(name), field))
        if name == "gateways":
            lines += (
                _describe(f"gateways.*.{inner}", f"{_env(name)} {inner}", inner_field)
                for inner, inner_field in GatewaySettings.model_fields.items()
            )
    return lines


def _describe(name: str, env: str, field: FieldInfo) -> SettingDescription:
    extra = field.json_schema_extra
    unit = str(extra.get("unit", "")) if isinstance(extra, dict) else ""
    default = "" if field.is_required() or field.default in (None, {}) else str(field.default)
    return SettingDescription(name, env, default, unit, field.description or "")


def _env(name: str) -> str:
    return PREFIX + name.upper()
