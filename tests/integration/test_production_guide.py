"""The guide for production against the code that it speaks of, and its SQL on a real PostgreSQL."""

import re

import psycopg
import pytest
from sqlalchemy import make_url

from outbox import Outbox, leases
from outbox.channels.base import Channel
from outbox.policy.retention import HOUR_MS, Retention
from outbox.store import claiming, migrating
from outbox.store.schema import define
from tests.servers.postgresql import libpq_url
from tests.servers.supervised import PROJECT

GUIDE = (PROJECT / "docs/guides/production.md").read_text()
INDEX_BEFOREHAND, AUTOVACUUM = re.findall(r"^```sql\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.mark.postgres
def test_its_settings_for_autovacuum_are_taken_by_the_tables_that_there_are(postgres_url: str) -> None:
    outbox = Outbox(postgres_url)
    outbox.upgrade_schema()
    outbox.close()
    with psycopg.connect(libpq_url(make_url(postgres_url))) as connection:
        connection.execute(AUTOVACUUM)
        taken = connection.execute(
            "select relname, reloptions from pg_class where relkind = 'r' and reloptions is not null"
        ).fetchall()
    assert {name for name, _ in taken} == {define().messages.name, define().attempts.name}
    assert "autovacuum_vacuum_threshold=10000" in dict(taken)[define().messages.name]


@pytest.mark.postgres
def test_an_index_that_is_made_beforehand_is_the_one_that_the_upgrade_would_make(postgres_url: str) -> None:
    outbox = Outbox(postgres_url)
    migrating.upgrade(outbox.store, "0002")
    with psycopg.connect(libpq_url(make_url(postgres_url)), autocommit=True) as connection:
        connection.execute(INDEX_BEFOREHAND)
        outbox.upgrade_schema()
        by_hand, by_models = (
            connection.execute("select indexdef from pg_indexes where indexname = %s", [f"{table}_busy"]).fetchone()
            for table in ("message_outbox", _made_by_models(outbox, "other"))
        )
    outbox.close()
    assert by_hand is not None
    assert by_models is not None
    assert by_hand[0] == by_models[0].replace("other", "message_outbox")


def _made_by_models(outbox: Outbox, table: str) -> str:
    with outbox.store.transaction() as tx:
        define(table).metadata.create_all(tx.connection)
    return table


def test_its_times_are_those_of_the_code() -> None:
    times = dict(re.findall(r"^\| (.*?) \| (.*?) \|", GUIDE, re.MULTILINE))
    assert times["a channel's `timeout`"] == f"{Channel.timeout:g} s"
    assert times["the run lease"] == f"`timeout` + {leases.LEASE_MARGIN_S:g} s"
    shortest, longest = claiming.SHORTEST_HORIZON_MS // 1000, claiming.LONGEST_HORIZON_MS // 1000
    assert times["the dispatch horizon"] == f"{shortest} s, up to {longest} s for what is published again and again"
    assert times["the retention of what was delivered"] == f"{Retention().delivered_ms // HOUR_MS // 24} days"
    for unit in (PROJECT / "deploy/systemd").glob("*.service"):
        assert "TimeoutStopSec=90\n" in unit.read_text()


def test_the_units_and_profiles_that_it_names_are_there() -> None:
    units = {unit.name.removesuffix(".service") for unit in (PROJECT / "deploy/systemd").iterdir()}
    [enabled] = re.findall(r"systemctl enable --now (.*?)`", GUIDE)
    assert {re.sub(r"@.*", "@", name) for name in enabled.split()} <= units
    compose = (PROJECT / "docker-compose.yml").read_text()
    assert all(f"profiles: [{profile}]" in compose for profile in re.findall(r"--profile (\w+)", GUIDE))
    variables = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", GUIDE))
    assert variables
    of_the_service = {name for name in variables if f"{name}=" in (PROJECT / ".env.example").read_text()}
    assert "OUTBOX_SHUTDOWN_GRACE_S" in of_the_service
    assert all(f"${{{name}:-" in compose for name in variables - of_the_service)
