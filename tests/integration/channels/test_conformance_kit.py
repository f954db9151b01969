"""The conformance kit finds what is wrong with channels: each of these has one defect, and the test for that fails."""

import os
import re
import subprocess
import sys
from pathlib import Path

CHANNELS = """
import socket
import urllib.request
from http.client import HTTPConnection

import pytest

from outbox import Channel, OutcomeUnknown, PermanentFailure, Receipt, RetryLater
from outbox.testing.conformance import RemoteChannelConformance
from outbox.testing.other_side import http_other_side

TOKEN = "t0ken-that-nobody-may-see"


class Sound(Channel):
    name = "sound"
    supports_idempotency_key = True
    patience = 1.0

    def __init__(self, port):
        super().__init__()
        self.port = port

    def send_final(self, message, attempt):
        connection = HTTPConnection("127.0.0.1", self.port, timeout=attempt.timeout_s * self.patience)
        try:
            connection.connect()
        except OSError:
            raise self.unreachable() from None
        try:
            connection.request("POST", "/", str(message.payload), self.headers(attempt))
            status = connection.getresponse().status
        except OSError:
            raise self.unanswered() from None
        finally:
            connection.close()
        if status == 400:
            raise self.refused()
        if status == 503:
            raise self.busy()
        return self.receipt()

    def headers(self, attempt):
        return {"Idempotency-Key": attempt.idempotency_key}

    def unreachable(self):
        return RetryLater("unreachable")

    def unanswered(self):
        return OutcomeUnknown("no answer")

    def refused(self):
        return PermanentFailure("HTTP 400")

    def busy(self):
        return RetryLater("HTTP 503")

    def receipt(self):
        return Receipt("1")


class Leaky(Sound):
    def refused(self):
        return PermanentFailure(f"HTTP 400 for {TOKEN}")


class Untyped(Sound):
    def busy(self):
        return ValueError("HTTP 503")


class Resigned(Sound):
    def busy(self):
        return PermanentFailure("HTTP 503")


class Stubborn(Sound):
    def refused(self):
        return RetryLater("HTTP 400")


class Rash(Sound):
    def unanswered(self):
        return RetryLater("no answer")


class Doubtful(Sound):
    def unreachable(self):
        return OutcomeUnknown("unreachable")


class Keyless(Sound):
    def headers(self, attempt):
        return {}


class Unstorable(Sound):
    def receipt(self):
        return Receipt("1", {"connection": object()})


class Slow(Sound):
    patience = 20.0


class Deaf(Sound):
    def send_final(self, message, attempt):
        return super().send_final(message, attempt) if "media" not in message.payload else Receipt()


class Spent(Sound):
    closed = False

    async def aclose(self):
        self.closed = True

    def send_final(self, message, attempt):
        if self.closed:
            raise RuntimeError("closed")
        return super().send_final(message, attempt)


class Conformance(RemoteChannelConformance):
    secrets = (TOKEN,)

    @pytest.fixture
    def other_side(self):
        with http_other_side() as here:
            yield here

    @pytest.fixture
    def channel(self, other_side):
        return type(self).adapter(int(other_side.url.rpartition(":")[2]))


for adapter in (Sound, *Sound.__subclasses__()):
    globals()[f"Test{adapter.__name__}"] = type(f"Test{adapter.__name__}", (Conformance,), {"adapter": adapter})
"""
WRONG = {
    ("Leaky", "test_no_secret_shows_whatever_happens[refusing]"),
    ("Untyped", "test_what_is_refused_in_passing_is_tried_again"),
    ("Resigned", "test_what_is_refused_in_passing_is_tried_again"),
    ("Stubborn", "test_what_is_refused_for_good_is_a_dead_letter_with_a_reason"),
    ("Rash", "test_without_an_answer_it_ends_with_its_timeout_and_the_outcome_is_unknown"),
    ("Slow", "test_without_an_answer_it_ends_with_its_timeout_and_the_outcome_is_unknown"),
    ("Doubtful", "test_a_side_that_cannot_be_reached_has_accepted_nothing"),
    ("Keyless", "test_the_idempotency_key_arrives_each_time_where_the_channel_supports_one"),
    ("Unstorable", "test_it_accepts_a_text_and_leaves_a_receipt_that_can_be_kept"),
    ("Deaf", "test_nothing_is_delivered_that_did_not_arrive[media]"),
    ("Spent", "test_it_gives_back_what_it_holds_and_can_be_used_afterwards"),
}


def test_each_defect_is_found_by_its_test_and_a_sound_channel_passes(tmp_path: Path) -> None:
    (tmp_path / "test_channels.py").write_text(CHANNELS)
    options = ["-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "-c", os.devnull]
    wanted = ["test_channels.py::TestSound", *(f"test_channels.py::Test{channel}::{test}" for channel, test in sorted(WRONG))]

    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *wanted], cwd=tmp_path, capture_output=True, text=True, check=False,
        timeout=100, env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip

    failed = re.findall(r"^FAILED test_channels.py::Test(\w+)::(\S+)", done.stdout, re.MULTILINE)
    assert set(failed) == WRONG, done.stdout + done.stderr
    assert "error" not in done.stdout.splitlines()[-1]
