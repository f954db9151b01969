"""The example without a framework, run as its first line says."""

import re
import subprocess
import sys

from tests.servers.supervised import PROJECT


def test_what_is_committed_is_packed_in_order_and_what_was_taken_back_is_not(database_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "examples.plain_sqlalchemy", database_url],
        cwd=PROJECT, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "unicorn is no order: unicorns are sold out" in done.stdout
    [first, second] = re.findall(r" is order (\d+)", done.stdout)
    assert re.findall(r"packed order (\d+), at attempt 2", done.stdout) == [first, second]
    assert done.stdout.count("delivered after 2 attempts") == 2
