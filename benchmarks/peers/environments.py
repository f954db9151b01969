"""Peers' environments: what a requirements file pins, installed once and kept in `build/peers` until the file changes."""

import hashlib
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.lab import PROJECT

REQUIREMENTS = Path(__file__).parent / "requirements"
KEPT = PROJECT / "build" / "peers"


class NotInstalled(Exception):
    """A peer cannot be had here; the text is the installer's."""


def python_of(peer: str) -> Path:
    """The Python of the peer's environment, which is made if it is not there. Raises :class:`NotInstalled`."""
    requirements = REQUIREMENTS / f"{peer}.txt"
    pinned = requirements.read_bytes() + platform.python_version().encode()
    directory = KEPT / f"{peer}-{hashlib.sha256(pinned).hexdigest()[:12]}"
    python = directory / "bin" / "python"
    if not (directory / ".ready").exists():
        _uv("venv", "--quiet", "--clear", "--python", sys.executable, str(directory))
        _uv("pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), "--requirement", str(requirements))
        (directory / ".ready").touch()
    return python


def version_of(peer: str) -> str:
    """What the requirements file pins the peer at; of plain Celery, Celery's."""
    lines = (REQUIREMENTS / f"{peer}.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    return pins.get(peer) or pins["celery"]


def _uv(*arguments: str) -> None:
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        raise NotInstalled("uv is missing: run `make setup`")
    done = subprocess.run([uv, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotInstalled(done.stderr.strip()[-2000:])
