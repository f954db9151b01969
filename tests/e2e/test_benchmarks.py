"""The benchmarks run: nothing else imports them, and what they measure with is renamed now and then."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import BENCHMARKS
from tests.servers.supervised import PROJECT

ELSEWHERE = {"peers"}
"""They install what they measure."""
PATIENCE_S = 600


@pytest.mark.long
@pytest.mark.timeout(PATIENCE_S + 20)
def test_every_benchmark_runs(tmp_path: Path) -> None:
    names = BENCHMARKS.keys() - ELSEWHERE
    results = tmp_path / "results.json"
    command = [sys.executable, "-m", "benchmarks", *names, "--quick", "--rounds", "1", "--json", str(results)]
    ended = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=PATIENCE_S)

    assert ended.returncode == 0, ended.stderr
    figures = [row["ours"] for row in json.loads(results.read_text())["rows"]]
    assert len(figures) >= len(names)
    assert None not in figures
