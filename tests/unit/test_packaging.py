"""What users install: the library alone, typed, and without the dependencies of what they do not use."""

import subprocess
import sys
import tarfile
import zipfile
from configparser import ConfigParser
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

import outbox

ROOT = Path(__file__).parents[2]
HEAVY = ("outbox", "sqlalchemy", "alembic")
OPTIONAL = (
    "a2wsgi", "aiohttp", "aiosmtplib", "apprise", "celery", "click", "django", "fastapi", "flask", "flower", "jinja2", "kombu",
    "opentelemetry", "prometheus_client", "psycopg", "pydantic", "redis", "rich", "starlette", "waitress", "werkzeug", "yarl",
)  # fmt: skip


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", directory], cwd=ROOT, check=True)
    return directory


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> Path:
    (path,) = distributions.glob("*.whl")
    return path


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(archive.read(name))


def test_the_wheel_contains_the_library_and_nothing_else(wheel: Path) -> None:
    top_level = {name.split("/")[0] for name in names(wheel)}
    assert top_level == {"outbox", "celery_outbox-0.1.0.dist-info"}


def test_the_wheel_contains_every_file_of_the_library(wheel: Path) -> None:
    library = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "outbox").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert library <= names(wheel)


def test_the_wheel_is_typed_and_carries_its_licence(wheel: Path) -> None:
    assert "outbox/py.typed" in names(wheel)
    assert any(name.endswith("/licenses/LICENSE") for name in names(wheel))


def test_every_member_of_an_extra_is_itself_an_extra(wheel: Path) -> None:
    described = metadata(wheel)
    extras = set(described.get_all("Provides-Extra", []))
    assert extras >= {"all", "celery", "cli", "django", "embedded", "flask", "flower", "postgres", "redis", "webhook"}
    for requirement in described.get_all("Requires-Dist", []):
        assert not requirement.startswith("celery-outbox[") or set(requirement.split("[")[1].split("]")[0].split(",")) <= extras


def test_the_source_distribution_can_run_its_own_tests(distributions: Path) -> None:
    (path,) = distributions.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        inside = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"Makefile", "requirements.lock", "tests/conftest.py", "outbox/__init__.py"} <= inside


def test_pytest_finds_the_fixtures_and_who_does_not_ask_for_them_imports_nothing_for_them(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
        points = ConfigParser()
        points.read_string(archive.read(name).decode())
    ((_name, module),) = points.items("pytest11")
    code = f"import sys, {module}; print(*sorted(name for name in sys.modules if name.split('.')[0] in {HEAVY!r}))"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.split() == ["outbox", module]


def test_every_public_name_is_found_although_it_is_imported_only_when_it_is_asked_for() -> None:
    code = "import outbox; print(*(getattr(outbox, name).__name__ for name in dir(outbox) if name in outbox.__all__))"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.split() == sorted(outbox.__all__)


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    assert not hasattr(outbox, "Ouxtbox")


def test_an_application_that_only_enqueues_imports_no_optional_dependency() -> None:
    code = f"import sys; from outbox import Outbox; print(*sorted(set({OPTIONAL!r}) & set(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.split() == []


def test_a_worker_without_sessions_does_not_load_the_object_relational_mapper() -> None:
    """Each process would start a tenth later."""
    code = "import sys; from outbox import Outbox; import outbox.integrations.celery; Outbox('sqlite://', channels=[])"
    printed = subprocess.run(
        [sys.executable, "-c", f"{code}; print('sqlalchemy.orm' in sys.modules)"], check=True, capture_output=True, text=True
    ).stdout
    assert printed.split() == ["False"]


def test_the_lock_names_no_index_and_no_place_on_this_machine() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    requirements = [line for line in lock.splitlines() if not line.lstrip().startswith(("#", "--hash"))]
    assert all("==" in line for line in requirements)
    assert "://" not in lock
    assert "--index" not in lock
    assert "--find-links" not in lock
