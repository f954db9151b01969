"""What a page tells to type, typed in a directory of its own, and what is printed compared with what the page shows."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.integration.documentation.blocks import PROJECT
from tests.rewriting import rewritten
from tests.servers.supervised import leash

PATIENCE_S = 120

_ID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_VARIES = [
    (_ID, "ID"),
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?"), "TIME"),
    (re.compile(r"\b(in )?(a|an|\d+) (second|minute|moment)s?( ago| from now)?\b|\bnow\b"), "AGE"),
    (re.compile(r"\b\d+ ms\b"), "SPAN"),
    (re.compile(r"\b[\w.-]+:[0-9a-f]{8}:\d+\b"), "PROCESS"),
    (re.compile(r" {2,}"), " "),
]
_STAYS = re.compile(r"&$|^(celery .* worker|celery .* relay|uvicorn|flask .* run|outbox .* web)\b[^|]*$")
_REPEATED = re.compile(r"\boutbox\b.* (list|status|show|relay --inline --once)\b")


class Walk:
    """A reader at a terminal; ``replaced`` is what stands for the servers and addresses that a page takes for granted."""

    def __init__(self, directory: Path, replaced: Mapping[str, str]) -> None:
        self.directory = directory
        self.replaced = dict(replaced)
        self.started: list[Path] = []
        """The logs of what was left running."""
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("OUTBOX_", "SHOP_"))},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join([str(directory), str(PROJECT)]),
            "LOGNAME": "ada",
            "COLUMNS": "200",
        }
        self._processes = ExitStack()

    def close(self) -> None:
        """End what was left running."""
        self._processes.close()

    def write(self, block: str) -> Path:
        """Save a block whose first line is a comment that names its file."""
        named = re.match(r"# ([\w/.-]+\.\w+)", block)
        assert named, f"which file is it? {block}"
        path = self.directory / named[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(rewritten(block, self.replaced), encoding="utf-8")
        return path

    def type(self, block: str, answers: str = "") -> None:
        """Run the commands of a block; each must end well, or stay, and print what is shown below it."""
        for command, shown in _commands(block):
            command = rewritten(command, self.replaced)  # noqa: PLW2901
            if command.startswith("export "):
                name, _, value = command.removeprefix("export ").partition("=")
                self._environment[name] = value
            elif _STAYS.search(command):
                self._start(command.removesuffix("&").strip())
            else:
                self._run(command, shown, answers)

    def _run(self, command: str, shown: str, answers: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            done = subprocess.run(
                ["bash", "-c", f"set -o pipefail; {command}"], cwd=self.directory, env=self._environment, input=answers,
                capture_output=True, text=True, check=False, timeout=PATIENCE_S,
            )  # fmt: skip
            printed = done.stdout + done.stderr
            if not shown or _looks_like(shown, done.stdout) or _looks_like(shown, printed):
                break
            assert _REPEATED.search(command), f"{command} printed:\n{printed}\nand not:\n{shown}"
            late = f"{command} still prints:\n{printed}\nand not:\n{shown}\n{self.logs()}"
            assert time.monotonic() < deadline, late
            time.sleep(0.1)
        assert done.returncode == 0 or shown, f"{command} ended with {done.returncode}:\n{printed}"
        self.replaced |= zip(_ID.findall(shown), _ID.findall(printed), strict=False)

    def _start(self, command: str) -> None:
        log = self.directory / f"{len(self.started)}.log"
        self._processes.enter_context(self._running(command, log))
        self.started.append(log)

    @contextmanager
    def _running(self, command: str, log: Path) -> Iterator[None]:
        leash().hold()
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"], cwd=self.directory, env=self._environment, stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, process_group=leash().group,
            )  # fmt: skip
        try:
            yield
        finally:
            process.terminate()
            process.wait(PATIENCE_S)

    def logs(self) -> str:
        """What has been printed by what was left running."""
        return "\n".join(log.read_text(errors="replace") for log in self.started)


def _commands(block: str) -> Iterator[tuple[str, str]]:
    """Each command, without the remark behind it, and what is shown below it."""
    for part in re.split(r"^\$ ", block.replace("\\\n", ""), flags=re.MULTILINE)[1:]:
        line, _, shown = part.partition("\n")
        yield re.sub(r"\s{2,}# .*$", "", line).strip(), shown.strip()


def _looks_like(shown: str, printed: str) -> bool:
    """Whether it is the same but for ids, times and processes; ``…`` on a line of its own stands for any lines."""
    wanted = "\n".join(".*" if line == "…" else re.escape(line) for line in _plain(shown))
    return re.fullmatch(wanted, "\n".join(_plain(printed)), re.DOTALL) is not None


def _plain(text: str) -> list[str]:
    for pattern, name in _VARIES:
        text = pattern.sub(name, text)
    return [line.strip() for line in text.strip().splitlines()]
