"""What ``manage.py check`` finds wrong, and says what to do about. Run by test_suite.py with Django's test runner."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from django.core.checks import CheckMessage, run_checks
from django.db import connections
from django.test import SimpleTestCase, TestCase, override_settings

from outbox.integrations.django import outbox

WRONG: list[tuple[Any, str, str]] = [
    ({"DATABSE": "default"}, "outbox.E001", "settings.OUTBOX has no key 'DATABSE'; did you mean 'DATABASE'?"),
    ({"OUTSIDE_TRANSACTION": "eror"}, "outbox.E001", "must be one of 'error', 'warn', 'allow', not 'eror'"),
    ({"TABLE": "drop table"}, "outbox.E001", "settings.OUTBOX['TABLE'] must be a name"),
    ({"PAYLOAD_LIMIT": "1 MB"}, "outbox.E001", "settings.OUTBOX['PAYLOAD_LIMIT'] must be of type int"),
    ({"RETENTION": {"delivered": 1}}, "outbox.E001", "settings.OUTBOX['RETENTION']"),
    ({"CHANNELS": ["webhook"]}, "outbox.E001", "settings.OUTBOX['CHANNELS'] must be the path of a channels.toml"),
    ({"EMAIL_POLICY": 5}, "outbox.E001", "settings.OUTBOX['EMAIL_POLICY'] must be a dictionary"),
    ([], "outbox.E001", "settings.OUTBOX must be a dictionary"),
    ({"DATABASE": "defualt"}, "outbox.E002", "settings.DATABASES has no alias 'defualt'; did you mean 'default'?"),
    ({"CHANNELS": {"webhook": {"sekret": "x"}}}, "outbox.E003", "channel 'webhook' has no option 'sekret'"),
    ({"CHANNELS": {"carrier-pigeon": {}}}, "outbox.E003", "there is no adapter 'carrier-pigeon'"),
]


def found(**options: Any) -> list[CheckMessage]:
    return [one for one in run_checks(**options) if str(one.id).startswith("outbox.")]


class Settings(TestCase):
    def test_nothing_is_wrong_with_the_defaults(self) -> None:
        assert found(databases=["default"]) == []

    def test_what_cannot_be_meant_is_an_error(self) -> None:
        for setting, identity, told in WRONG:
            with self.subTest(setting=setting), override_settings(OUTBOX=setting):
                first = found()[0]
                assert first.id == identity
                assert told in first.msg

    def test_an_engine_that_the_outbox_cannot_live_in_is_an_error(self) -> None:
        with patch.object(connections["elsewhere"], "vendor", "mysql"), override_settings(OUTBOX={"DATABASE": "elsewhere"}):
            first = found()[0]
        assert first.id == "outbox.E002"
        assert "use SQLite or PostgreSQL" in first.msg


class Databases(TestCase):
    databases = ("default", "elsewhere")

    def test_deferred_transactions_of_sqlite_are_a_warning_with_the_fix(self) -> None:
        with override_settings(OUTBOX={"DATABASE": "elsewhere"}):
            (warning,) = found(databases=["elsewhere"])
        assert warning.id == "outbox.W001"
        assert warning.hint == "DATABASES['elsewhere']['OPTIONS'] = {'transaction_mode': 'IMMEDIATE'}"


class Channels(SimpleTestCase):
    def test_they_may_stand_in_a_file(self) -> None:
        with TemporaryDirectory() as directory:
            path = Path(directory) / "channels.toml"
            path.write_text('[printer]\nkind = "console"\n')
            with override_settings(OUTBOX={"CHANNELS": path}):
                assert "printer" in outbox().channels

    def test_they_may_stand_in_the_settings(self) -> None:
        with override_settings(OUTBOX={"CHANNELS": {"printer": {"kind": "console", "max_attempts": 2}}}):
            assert outbox().channels.get("printer").max_attempts == 2
