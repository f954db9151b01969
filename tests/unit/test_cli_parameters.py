"""How option values are read."""

import getpass
import os

import click
import pytest

from outbox.cli.parameters import duration, operating_user, positive_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0), ("90", 90), ("1.5", 1.5), ("250ms", 0.25), ("10m", 600), ("1h30m", 5400), ("48h", 172_800),
        ("30d", 2_592_000), ("2w", 1_209_600), (" 5s ", 5), ("1.5h", 5400),
    ],
)  # fmt: skip
def test_a_duration_is_seconds_or_numbers_with_units(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "-5", "10 minutes", "m10", "nan", "inf", "1e3", "10m 5s", "٣s", "1h30"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a duration; write 90"):
        duration(text)


def test_more_than_ten_years_is_refused() -> None:
    with pytest.raises(click.BadParameter, match="more than ten years"):
        duration("9" * 400)


def test_nothing_at_all_is_refused_where_time_must_pass() -> None:
    with pytest.raises(click.BadParameter, match="longer than 0"):
        positive_duration("0s")


@pytest.mark.parametrize("error", [KeyError("getpwuid(): uid not found: 1234"), OSError("No username set in the environment")])
def test_a_user_without_a_name_is_recorded_by_number(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def nameless() -> str:
        raise error

    monkeypatch.setattr(getpass, "getuser", nameless)

    assert operating_user() == f"uid {os.getuid()}"
