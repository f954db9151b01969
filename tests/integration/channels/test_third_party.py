"""A channel of a distribution of its own: installed as users install it, found by its entry point, tested by its author."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[3] / "examples" / "third_party_channel"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory into which the example is installed."""
    directory = tmp_path_factory.mktemp("installed")
    uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--offline", "--no-deps", "--no-build-isolation"]
    subprocess.run([*uv, "--python", sys.executable, "--target", directory, EXAMPLE], check=True)
    return directory


def run(installed: Path, *arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")])}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=100)


def test_a_channels_file_names_it_by_its_entry_point(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "channels.toml").write_text('[phones]\nkind = "ntfy"\nurl = "https://ntfy.example"\ntimeout = 3\n')
    code = "from pathlib import Path; from outbox.channels import configuration as c; print(*c.load(Path('channels.toml'), {}))"

    loaded = run(installed, "-c", code, cwd=tmp_path)

    assert "outbox_ntfy.Ntfy object" in loaded.stdout, loaded.stderr


def test_where_it_is_not_installed_nobody_knows_it(tmp_path: Path) -> None:
    (tmp_path / "channels.toml").write_text('[phones]\nkind = "ntfy"\n')
    code = "from pathlib import Path; from outbox.channels import configuration as c; print(*c.load(Path('channels.toml'), {}))"

    loaded = run(tmp_path, "-c", code, cwd=tmp_path)

    assert "there is no adapter 'ntfy'" in loaded.stderr


def test_it_passes_the_tests_of_its_author(installed: Path, tmp_path: Path) -> None:
    options = ["-q", "--no-header", "-W", "error", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "-c", os.devnull]

    done = run(installed, "-m", "pytest", *options, str(EXAMPLE / "tests"), cwd=tmp_path)

    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout
