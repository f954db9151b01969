"""The service's log in JSON: every line is one object, whatever was logged."""

import json
import logging
from typing import Any

import pytest

from outbox.telemetry import LeaseLost, log_event
from workers.logs import JsonLines


def logged(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    (record,) = caplog.records
    line = JsonLines().format(record)
    assert "\n" not in line
    told: dict[str, Any] = json.loads(line)
    return told


def test_an_event_of_the_outbox_keeps_its_fields(caplog: pytest.LogCaptureFixture) -> None:
    log_event(LeaseLost("0198c0de", "webhook", 3, "delivered"))

    told = logged(caplog)

    assert told["outbox"] == {
        "event": "LeaseLost", "message_id": "0198c0de", "channel": "webhook", "lease": 3, "outcome": "delivered",
    }  # fmt: skip
    assert (told["level"], told["logger"]) == ("WARNING", "outbox")
    assert told["message"].startswith("LeaseLost message_id=0198c0de")
    assert told["time"].endswith("Z")


def test_a_traceback_and_a_text_of_several_lines_stay_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise LookupError("first line\nsecond line")
    except LookupError:
        logging.getLogger("celery.worker").exception("the task %s\nfailed", "outbox.relay")

    told = logged(caplog)

    assert told["message"] == "the task outbox.relay\nfailed"
    assert "LookupError: first line\nsecond line" in told["exception"]
    assert "outbox" not in told


def test_what_json_does_not_know_is_told_as_text(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("outbox").warning("odd", extra={"outbox": {"error": LookupError("odd")}})

    assert logged(caplog)["outbox"] == {"error": "odd"}
