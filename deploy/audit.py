"""Asks a vulnerability service about every version that the lock pins: ``make audit``.

Exit status: 0 nothing is known, 1 something is, 3 the service could not be asked, which says nothing about the versions.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
TOOL = (str(Path(sys.executable).with_name("uv")), "tool", "run", "--quiet", "pip-audit")
SERVICES = ("pypi", "osv")
"""Asked in turn, until one answers."""
PATIENCE_S = 240


class Verdict(IntEnum):
    """What an audit came to."""

    CLEAN = 0
    FOUND = 1
    NOT_ASKED = 3


def audit(lock: Path, service: str, tool: Sequence[str] = TOOL) -> tuple[Verdict, str]:
    """Ask one service about one lock; and what there is to tell."""
    with tempfile.TemporaryDirectory() as directory:
        answer = Path(directory) / "answer.json"
        command = [
            *tool, "--requirement", str(lock), "--disable-pip", "--require-hashes", "--vulnerability-service", service,
            "--progress-spinner", "off", "--format", "json", "--output", str(answer),
        ]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return Verdict.NOT_ASKED, f"{service}: {type(error).__name__}"
        said = done.stderr.strip().splitlines()
        # An error, too, ends with 1: only an answer tells that something was found, or that nothing was.
        try:
            dependencies = json.loads(answer.read_text(encoding="utf-8"))["dependencies"]
        except (OSError, ValueError, KeyError, TypeError):
            return Verdict.NOT_ASKED, f"{service}: {said[-1] if said else f'no answer, exit status {done.returncode}'}"
    return judge(service, dependencies)


def judge(service: str, dependencies: Sequence[Mapping[str, Any]]) -> tuple[Verdict, str]:
    """Of what a service answered: what is found counts first, and whatever it did not look up was not asked about."""
    found = [f"{each['name']} {each['version']}: {hole['id']}" for each in dependencies for hole in each.get("vulns", ())]
    skipped = [f"{each['name']}: {each['skip_reason']}" for each in dependencies if "skip_reason" in each]
    if found:
        return Verdict.FOUND, f"{service} knows of {len(found)}:\n" + "\n".join(found)
    if skipped or not dependencies:
        return (
            Verdict.NOT_ASKED,
            f"{service} looked up {len(dependencies) - len(skipped)} of {len(dependencies)}: {skipped[:3]}",
        )
    return Verdict.CLEAN, f"{service} knows of nothing against {len(dependencies)} versions"


def main() -> int:
    """Ask one service after another; the exit status."""
    for service in SERVICES:
        verdict, told = audit(LOCK, service)
        print(told, flush=True)
        if verdict is not Verdict.NOT_ASKED:
            return verdict
    print("No service could be asked: whether these versions are vulnerable is not known.", file=sys.stderr)
    return Verdict.NOT_ASKED


if __name__ == "__main__":
    sys.exit(main())
