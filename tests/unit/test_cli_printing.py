"""What reaches the terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox.cli import printing
from outbox.policy.printable import escaped

NOW_MS = 1_795_000_000_000


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("two\nlines\r\n", r"two\nlines\r\n"),
        ("bell\x07 and C1 \x9b2J", r"bell\x07 and C1 \x9b2J"),
        ("invoice\u202egpj.exe", r"invoice\u202egpj.exe"),
        ("zero\u200bwidth", r"zero\u200bwidth"),
        ("broken \ud800", r"broken \ud800"),
        ("Grüße, 東京 🎉", "Grüße, 東京 🎉"),
        (None, "None"),
    ],
)
def test_characters_that_steer_a_terminal_are_shown_as_their_escapes(text: str, shown: str) -> None:
    assert escaped(text) == shown


@given(st.text(st.characters(codec=None)))
def test_whatever_a_message_holds_only_printable_characters_are_shown(text: str) -> None:
    assert escaped(text).isprintable()


def test_a_table_shows_markup_and_emoji_codes_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    printing.print_table(["error"], [["[bold red]:boom:[/] https://user@host"]])

    assert capsys.readouterr().out.splitlines() == ["error", "[bold red]:boom:[/] https://user@host"]


def test_a_table_that_goes_into_a_pipe_is_never_wrapped_or_padded(capsys: pytest.CaptureFixture[str]) -> None:
    printing.print_table(["a", "b"], [["x" * 300, "short"], ["x", None]])

    header, first, second = capsys.readouterr().out.splitlines()
    assert first == "x" * 300 + "  short"
    assert (header.split(), second) == (["a", "b"], "x")


def test_facts_that_are_not_known_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    printing.print_facts({"status": "queued", "completed_at": None})

    assert capsys.readouterr().out == "status  queued\n"


@pytest.mark.parametrize(
    ("moment_ms", "shown"),
    [
        (NOW_MS - 12_000, "2026-11-18T11:06:28.000Z (12 seconds ago)"),
        (NOW_MS + 600_000, "2026-11-18T11:16:40.000Z (10 minutes from now)"),
        (None, None),
        (10**18, "1000000000000000000 ms"),
        (-(10**18), "-1000000000000000000 ms"),
    ],
)
def test_a_moment_is_shown_with_its_distance_and_a_number_that_is_no_date_as_it_is(
    moment_ms: int | None, shown: str | None
) -> None:
    assert printing.when(moment_ms, NOW_MS) == shown


def test_json_is_ascii_whatever_it_holds(capsys: pytest.CaptureFixture[str]) -> None:
    printing.print_json({"target": "Grüße\x1b[31m\u202e"})

    printed = capsys.readouterr().out
    assert printed.isascii()
    assert "\x1b" not in printed
