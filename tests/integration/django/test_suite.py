"""The suites of Django test cases in ``suite/``, run by Django's own test runner: it makes its database by our migrations."""

import re
from pathlib import Path

import pytest

from tests.integration.django.conftest import Manage

SUITES = sorted(path.stem for path in (Path(__file__).parent / "suite").glob("[a-z]*.py"))


@pytest.mark.proves("R1", "R21")
@pytest.mark.parametrize("suite", SUITES)
def test_the_django_suite_passes(manage: Manage, suite: str) -> None:
    told = manage("test", f"tests.integration.django.suite.{suite}")
    ran = re.search(r"Ran (\d+) tests", told)
    assert ran is not None, told
    assert int(ran[1]) > 2
    assert "skipped" not in told, told
