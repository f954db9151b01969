"""What is alike in all peers' applications: where things are, and the work of one message."""

import os
from functools import cache
from urllib.parse import urlsplit

import redis

DATABASE = "BENCH_DATABASE"
BROKER = "BENCH_BROKER"
COUNTER = "bench:sent"


def broker() -> str:
    return os.environ[BROKER]


def sqlite_file() -> str | None:
    """The file of the SQLite database; none where it is PostgreSQL."""
    scheme, _, path = os.environ[DATABASE].partition(":///")
    return path if scheme == "sqlite" else None


def postgresql_url() -> str:
    """As libpq, psycopg and asyncpg understand it."""
    return urlsplit(os.environ[DATABASE])._replace(scheme="postgresql").geturl()


@cache
def client() -> "redis.Redis":
    """One connection pool a process, made after the fork."""
    return redis.Redis.from_url(broker())


def count_one() -> None:
    client().incr(COUNTER)
