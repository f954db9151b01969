"""The ``outbox`` command under test: in this process, which is quick, or as the real one."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from outbox.cli.application import application

_BUFFERED = {"PYTHONUNBUFFERED": ""}
"""Output is buffered, as it is for users."""

EXECUTABLE = Path(sys.executable).with_name("outbox")


@dataclass(frozen=True)
class Ended:
    """How the command ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def data(self) -> Any:
        """What it printed as JSON."""
        return json.loads(self.stdout)

    @property
    def complaint(self) -> str:
        """The one line that it printed on standard error."""
        (line,) = self.stderr.splitlines()
        assert "Traceback" not in line
        return line


def application_module(monkeypatch: pytest.MonkeyPatch, directory: Path, source: str) -> str:
    """Write an application's module that ``--app`` can name, and return that name."""
    name = f"application_{uuid.uuid4().hex}"
    (directory / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(directory)  # whose undoing also forgets what --app adds
    return name


@dataclass(frozen=True)
class Command:
    """The command with global options such as ``--database`` in front."""

    options: Sequence[str] = ()

    def __call__(self, *arguments: str, stdin: str | bytes | None = None) -> Ended:
        """Run it in this process."""
        result = CliRunner().invoke(application, [*self.options, *arguments], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ended(result.exit_code, result.stdout, result.stderr)

    def ok(self, *arguments: str, stdin: str | bytes | None = None) -> Ended:
        """Run it in this process; it must succeed."""
        ended = self(*arguments, stdin=stdin)
        assert ended.status == 0, ended
        return ended

    def process(self, *arguments: str | bytes, stdin: str = "", **environment: str) -> Ended:
        """Run the real command."""
        done = subprocess.run(
            [EXECUTABLE, *self.options, *arguments], input=stdin, capture_output=True, text=True, check=False,
            env={**os.environ, **_BUFFERED, **environment}, timeout=60,
        )  # fmt: skip
        return Ended(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start the real command; the caller ends it."""
        return subprocess.Popen(
            [EXECUTABLE, *self.options, *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **_BUFFERED},
        )  # fmt: skip
