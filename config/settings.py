"""What an operator may set, as ``OUTBOX_…`` environment variables or lines of a ``.env`` file in the working directory.

A wrong value and a misspelt name stop the start with one line for each, which says what to do.
"""

import os
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from dotenv import dotenv_values
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from config.urls import check_broker_url, check_database_url, masked
from outbox.errors import ConfigurationError, did_you_mean

PREFIX = "OUTBOX_"
ENV_FILE = Path(".env")
CHANNELS_FILE = Path("channels.toml")

# OUTBOX_TEST_… belongs to the tests; the others are what Kubernetes injects for every Service whose name begins with "outbox".
_NOT_OURS = re.compile(r"OUTBOX_(TEST_\w+|(\w+_)?(SERVICE_HOST|SERVICE_PORT\w*|PORT_\d+_\w+))")
_SERVICE_LINK = re.compile(r"(tcp|udp)://")


class Pool(StrEnum):
    """How a worker node runs tasks: in child processes, or in threads of its own process."""

    PREFORK = "prefork"
    THREADS = "threads"


class LogFormat(StrEnum):
    """What a line of the log is: a text for people, or a JSON object for programs."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """The least severe thing that a process logs."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path.expanduser()))


def _channels_file_here() -> Path | None:
    return _absolute(CHANNELS_FILE) if CHANNELS_FILE.exists() else None


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PositiveCount = Annotated[int, Field(ge=1)]


class Settings(BaseSettings):
    """The service's settings; each field is the variable ``OUTBOX_<FIELD>``. Durations are in seconds."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=ENV_FILE, env_ignore_empty=True, extra="ignore", frozen=True)

    data_dir: AbsolutePath = Field(Path("var"), validate_default=True)
    """Where the service keeps its files: the default database, the embedded broker's, beat's schedule, logs."""
    database_url: Annotated[str, AfterValidator(check_database_url)] = Field(
        default_factory=lambda known: f"sqlite:///{known['data_dir'] / 'outbox.db'}"
    )
    """The application's database: ``sqlite:///…`` or ``postgresql://…``; default: a SQLite file in the data directory."""
    broker_url: Annotated[str, AfterValidator(check_broker_url)] | None = None
    """``redis://…`` or ``amqp://…``; default: the embedded broker of ``python -m workers``."""
    channels: AbsolutePath | None = Field(default_factory=_channels_file_here)
    """The file that configures the channels; default: ``channels.toml`` where there is one, else only ``console``."""

    nodes: PositiveCount = 2
    """Worker nodes that deliver, beside the one that relays."""
    concurrency: PositiveCount = 2
    """Delivery tasks that one node runs at once."""
    pool: Annotated[Pool, BeforeValidator(str.lower)] = Pool.PREFORK
    log_level: Annotated[LogLevel, BeforeValidator(str.upper)] = LogLevel.INFO
    log_format: Annotated[LogFormat, BeforeValidator(str.lower)] = LogFormat.TEXT
    shutdown_grace_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 40.0
    """How long sends under way may take to end when the service stops; what is cut off has an unknown outcome."""

    relay_interval_s: PositiveSeconds = 1.0
    """Pause between two looks for due messages."""
    maintain_interval_s: PositiveSeconds = 5.0
    """Pause between two rounds of expiry, rescue and pruning."""
    ttl_s: PositiveSeconds | None = None
    """Age at which a message expires, for channels that set no ``ttl`` of their own; default: the channel's default."""
    delivered_retention_s: PositiveSeconds = 48 * 3600.0
    """How long delivered messages are kept."""
    failed_retention_s: PositiveSeconds = 30 * 24 * 3600.0
    """How long failed, expired and cancelled messages are kept; at least as long as delivered ones."""

    flower: bool = True
    """Whether the supervisor starts Flower."""
    flower_port: Annotated[int, Field(ge=1, le=65535)] = 5555
    flower_user: Annotated[str, Field(min_length=1, pattern=r"^[^:]+$")] = "outbox"
    flower_password: SecretStr | None = None
    """Default: generated once and kept in the data directory."""

    dashboard: bool = True
    """Whether the supervisor starts the dashboard."""
    dashboard_host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Where others than this machine can reach it, people log in."""
    dashboard_port: Annotated[int, Field(ge=1, le=65535)] = 8700
    dashboard_users: AbsolutePath | None = None
    """The file of those who may log in; without it nobody does, and only this machine is answered."""
    dashboard_behind_proxy: bool = False
    """Whether one proxy stands in front of it, whose X-Forwarded-For, -Proto and -Host are believed."""
    dashboard_secret: SecretStr | None = None
    """What sessions are signed with; default: made anew at each start, so that people log in again."""

    metrics: bool = True
    """Whether the worker nodes count what they do, and the supervisor starts the exporter that serves it to Prometheus."""
    metrics_port: Annotated[int, Field(ge=1, le=65535)] = 9745
    """Of the exporter, on the loopback interface."""
    traces: bool = False
    """Whether the worker nodes follow messages with OpenTelemetry; its SDK is set up by whoever starts the service."""

    def environment(self) -> dict[str, str]:
        """These settings as environment variables, for a process that shall have the same."""
        return {variable(name): _as_text(value) for name, value in self if value is not None}

    def make_data_dir(self) -> None:
        """Make the data directory, for its user alone, unless it is there.

        Raises :class:`~outbox.errors.ConfigurationError` when it cannot be made or written to.
        """
        try:
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            writable = os.access(self.data_dir, os.W_OK | os.X_OK)
        except OSError as error:
            raise ConfigurationError(f"{variable('data_dir')}: {self.data_dir} cannot be made: {error.strerror}") from error
        if not writable:
            raise ConfigurationError(f"{variable('data_dir')}: {self.data_dir} cannot be written to")

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, masked(value) if name in ("database_url", "broker_url") and value else value

    __str__ = BaseSettings.__repr__


def load_settings(**overrides: Any) -> Settings:
    """The settings; ``overrides`` win over the environment, which wins over the ``.env`` file.

    Raises :class:`~outbox.errors.ConfigurationError`, with one line for each thing that is wrong.
    """
    _refuse_unknown(os.environ, "the environment")
    _refuse_unknown(_env_file_values(), str(ENV_FILE))
    _refuse_unknown({variable(name): None for name in overrides}, "the options")
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        raise ConfigurationError("\n".join(_complaints(error))) from None
    if settings.failed_retention_s < settings.delivered_retention_s:
        raise ConfigurationError(
            f"{variable('failed_retention_s')} must be at least {variable('delivered_retention_s')}"
            f" ({settings.delivered_retention_s:g}), not {settings.failed_retention_s:g}"
        )
    return settings


def variable(field: str) -> str:
    """The environment variable of a field of :class:`Settings`."""
    return PREFIX + field.upper()


def _refuse_unknown(values: Mapping[str, str | None], source: str) -> None:
    known = {variable(name) for name in Settings.model_fields}
    for key, value in values.items():
        if key.startswith(PREFIX) and key not in known and not _is_not_ours(key, value or ""):
            raise ConfigurationError(f"{source}: there is no setting {key}{did_you_mean(key, known)}")


def _is_not_ours(key: str, value: str) -> bool:
    return bool(_NOT_OURS.fullmatch(key) or _SERVICE_LINK.match(value))


def _env_file_values() -> dict[str, str | None]:
    try:
        return dotenv_values(ENV_FILE)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{ENV_FILE} cannot be read: {error}") from error


def _complaints(error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_url=False):
        if problem["type"] == "default_factory_not_called":
            continue  # a consequence of another complaint
        field = str(problem["loc"][0])
        reason = problem["msg"].removeprefix("Value error, ")
        # A rejected URL or password stays out of the text, since texts end up in logs.
        given = "" if field.endswith(("_url", "_password")) else f"={problem['input']}"
        yield f"{variable(field)}{given}: {reason[0].lower()}{reason[1:]}"


def _as_text(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
