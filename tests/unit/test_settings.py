"""The service's settings: where they come from, and what is said about wrong ones."""

import os
import re
import stat
from pathlib import Path

import pytest
from pydantic import ValidationError

from config.settings import LogLevel, Pool, Settings, load_settings, variable
from config.urls import masked
from outbox.errors import ConfigurationError

PROJECT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _nowhere_special(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty working directory and an environment without our variables."""
    for name in [name for name in os.environ if name.startswith("OUTBOX_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def complaint(**overrides: object) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(**overrides)
    return str(caught.value)


def test_without_any_setting_everything_lives_in_a_directory_here(tmp_path: Path) -> None:
    settings = load_settings()

    assert settings.data_dir == tmp_path / "var"
    assert settings.database_url == f"sqlite:///{tmp_path}/var/outbox.db"
    assert settings.broker_url is None
    assert settings.channels is None
    assert not settings.data_dir.exists()  # looking at settings changes nothing


def test_options_win_over_the_environment_which_wins_over_the_env_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("OUTBOX_NODES=3\nOUTBOX_CONCURRENCY=3\nOUTBOX_FLOWER_PORT=3333\nSOMEBODY_ELSES=fine\n")
    monkeypatch.setenv("OUTBOX_NODES", "4")
    monkeypatch.setenv("OUTBOX_CONCURRENCY", "4")

    settings = load_settings(nodes=5)

    assert (settings.nodes, settings.concurrency, settings.flower_port) == (5, 4, 3333)


def test_an_empty_variable_means_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTBOX_BROKER_URL", "")
    monkeypatch.setenv("OUTBOX_NODES", "")

    assert load_settings().broker_url is None
    assert load_settings().nodes == 2


def test_the_data_directory_carries_the_default_database_with_it(tmp_path: Path) -> None:
    assert load_settings(data_dir="elsewhere").database_url == f"sqlite:///{tmp_path}/elsewhere/outbox.db"


def test_a_channels_file_beside_the_service_is_found(tmp_path: Path) -> None:
    Path("channels.toml").write_text("[console]\n")

    assert load_settings().channels == tmp_path / "channels.toml"


def test_names_of_choices_may_be_written_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTBOX_POOL", "Threads")
    monkeypatch.setenv("OUTBOX_LOG_LEVEL", "debug")

    assert load_settings().pool is Pool.THREADS
    assert load_settings().log_level is LogLevel.DEBUG


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_settings().nodes = 9  # type: ignore[misc]


def test_a_process_that_gets_them_as_environment_has_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    given = load_settings(
        nodes=7, pool="threads", flower=False, flower_password="s3cret", broker_url="redis://h/1", ttl_s=60, channels="c.toml"
    )
    for name, value in given.environment().items():
        monkeypatch.setenv(name, value)

    assert load_settings() == given


@pytest.mark.parametrize("source", ["the environment", ".env"])
def test_a_misspelt_setting_is_refused_with_a_suggestion(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    if source == ".env":
        Path(".env").write_text("OUTBOX_NODS=3\n")
    else:
        monkeypatch.setenv("OUTBOX_NODS", "3")

    assert complaint() == f"{source}: there is no setting OUTBOX_NODS; did you mean 'OUTBOX_NODES'?"


def test_a_misspelt_option_is_refused_with_a_suggestion() -> None:
    assert complaint(nods=3) == "the options: there is no setting OUTBOX_NODS; did you mean 'OUTBOX_NODES'?"


def test_what_kubernetes_injects_for_a_service_named_outbox_is_not_taken_for_a_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {
        "OUTBOX_SERVICE_HOST": "10.0.0.1",
        "OUTBOX_SERVICE_PORT_HTTP": "80",
        "OUTBOX_PORT": "tcp://10.0.0.1:80",
        "OUTBOX_WEB_PORT_80_TCP_ADDR": "10.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)

    assert load_settings().nodes == 2


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("nodes", "x", "OUTBOX_NODES=x: input should be a valid integer"),
        ("nodes", "0", "OUTBOX_NODES=0: input should be greater than or equal to 1"),
        ("pool", "gevent", "OUTBOX_POOL=gevent: input should be 'prefork' or 'threads'"),
        ("relay_interval_s", "-1", "OUTBOX_RELAY_INTERVAL_S=-1: input should be greater than 0"),
        ("ttl_s", "inf", "OUTBOX_TTL_S=inf: input should be a finite number"),
        ("ttl_s", "nan", "OUTBOX_TTL_S=nan: input should be"),
        ("shutdown_grace_s", "-0.1", "OUTBOX_SHUTDOWN_GRACE_S=-0.1: input should be greater than or equal to 0"),
        ("flower_port", "99999", "OUTBOX_FLOWER_PORT=99999: input should be less than or equal to 65535"),
        ("flower_user", "a:b", "OUTBOX_FLOWER_USER=a:b: string should match"),
    ],
)
def test_a_wrong_value_is_named_with_its_variable_and_reason(field: str, value: str, said: str) -> None:
    assert complaint(**{field: value}).startswith(said)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("outbox.db", "not a database URL; write sqlite:///path or postgresql://user:password@host/name"),
        ("postgres://u:s3cret@h/db", "write postgresql://, not postgres://"),
        ("mysql://u:s3cret@h/db", "'mysql' is not supported; use sqlite or postgresql"),
        ("postgresq://h/db", "'postgresq' is not supported; did you mean 'postgresql'?; use sqlite or postgresql"),
        ("postgresql://u:p@h:s3cret/db", "its port is not a number; a / : or @ in a password is written %2F %3A %40"),
    ],
)
def test_a_database_url_that_means_nothing_to_us_is_refused_without_repeating_it(url: str, said: str) -> None:
    assert complaint(database_url=url) == f"OUTBOX_DATABASE_URL: {said}"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("localhost:6379", "not a broker URL; write redis://host:6379/0 or amqp://user:password@host//"),
        ("valkey://h", "write redis://: Valkey speaks the Redis protocol"),
        ("valkeys://h", "write rediss://: Valkey speaks the Redis protocol"),
        ("redsi://:s3cret@h", "'redsi' is not supported; did you mean 'redis'?; use one of redis, rediss,"),
        ("filesystem://", "'filesystem' is not supported; use one of redis, rediss,"),
        ("redis://:s3cret/x@h", "its host or port makes no sense; a / : or @ in a password is written %2F %3A %40"),
        ("redis+socket://", "redis+socket:// needs the path of the socket: redis+socket:///run/valkey.sock"),
    ],
)
def test_a_broker_url_that_means_nothing_to_us_is_refused_without_repeating_it(url: str, said: str) -> None:
    assert complaint(broker_url=url).startswith(f"OUTBOX_BROKER_URL: {said}")


@pytest.mark.parametrize(
    "url",
    ["redis://h", "rediss://:p@h:6379/1", "redis+socket:///run/v.sock", "sentinel://a:1;sentinel://b:2", "amqp://g:g@h//"],
)
def test_broker_urls_of_every_supported_kind_are_taken_as_they_are(url: str) -> None:
    assert load_settings(broker_url=url).broker_url == url


def test_every_wrong_setting_is_told_at_once_one_in_a_line() -> None:
    told = complaint(nodes="x", pool="y", data_dir=7).splitlines()

    assert [line.partition("=")[0] for line in told] == ["OUTBOX_DATA_DIR", "OUTBOX_NODES", "OUTBOX_POOL"]


def test_failures_are_kept_at_least_as_long_as_deliveries() -> None:
    """R7: prune keeps what may have to be looked into."""
    assert "OUTBOX_FAILED_RETENTION_S must be at least OUTBOX_DELIVERED_RETENTION_S" in complaint(
        delivered_retention_s=100, failed_retention_s=99
    )


def test_the_data_directory_is_made_for_its_user_alone(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path / "a" / "b")
    settings.make_data_dir()
    settings.make_data_dir()

    assert stat.S_IMODE(settings.data_dir.stat().st_mode) == 0o700


def test_a_data_directory_that_cannot_be_made_is_named_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = load_settings(data_dir=tmp_path / "file" / "var")

    with pytest.raises(ConfigurationError, match=r"^OUTBOX_DATA_DIR: .*/file/var cannot be made: Not a directory$"):
        settings.make_data_dir()


def test_an_env_file_that_is_not_text_is_named() -> None:
    Path(".env").write_bytes(b"OUTBOX_NODES=\xff\xfe\n")

    assert complaint().startswith(".env cannot be read: ")


def test_no_secret_is_in_what_settings_print() -> None:
    settings = load_settings(
        database_url="postgresql://app:s3cret@db/app",
        broker_url="amqp://app:s3cret@mq//",
        flower_password="s3cret",
    )

    for text in (repr(settings), str(settings), f"{settings}"):
        assert "s3cret" not in text
        assert "postgresql://app:***@db/app" in text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h/0", "redis://h/0"),
        ("redis://:p@h/0", "redis://:***@h/0"),
        ("postgresql://u:p@s/s@h/x", "postgresql://u:***@h/x"),
        ("postgresql://h/x?user=a&password=p&x=y", "postgresql://h/x?user=a&password=***&x=y"),
        ("sentinel://:p@a:1;sentinel://:q@b:2", "sentinel://:***@b:2"),
    ],
)
def test_a_masked_url_shows_no_password(url: str, shown: str) -> None:
    assert masked(url) == shown


def test_the_example_env_file_names_every_setting_with_its_default() -> None:
    example = dict(re.findall(r"^#(OUTBOX_\w+)=(.*)$", (PROJECT / ".env.example").read_text(), re.MULTILINE))

    assert list(example) == [variable(name) for name in Settings.model_fields]
    named = {name.removeprefix("OUTBOX_").lower(): value for name, value in example.items() if value}
    assert load_settings(**named) == load_settings()
