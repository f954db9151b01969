import base64
import re
import time

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from outbox.channels.signing import SigningKeys, wire_id

OLD = "whsec_" + base64.b64encode(b"o" * 24).decode()
NEW = "whsec_" + base64.b64encode(b"n" * 64).decode()
FOREIGN = "whsec_" + base64.b64encode(b"f" * 32).decode()


def verify(secret: str, headers: dict[str, str], body: bytes) -> None:
    standardwebhooks.Webhook(secret).verify(body, headers, json_parse=False)


@given(message_id=st.text(min_size=1), text=st.text())
def test_the_reference_library_verifies_what_is_signed(message_id: str, text: str) -> None:
    body = text.encode("utf-8", "replace")
    verify(NEW, SigningKeys.of([NEW]).headers(message_id, int(time.time()), body), body)


def test_the_example_of_the_specifications_reference_tests_has_the_same_signature() -> None:
    keys = SigningKeys.of(["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
    headers = keys.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_during_a_rotation_receivers_with_either_secret_verify_and_others_do_not() -> None:
    headers = SigningKeys.of([NEW, OLD]).headers("id", int(time.time()), b"{}")
    assert headers["webhook-signature"].count("v1,") == 2
    verify(NEW, headers, b"{}")
    verify(OLD, headers, b"{}")
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        verify(FOREIGN, headers, b"{}")


@pytest.mark.parametrize("change", ["webhook-id", "webhook-timestamp", "body"])
def test_id_timestamp_and_body_are_all_signed(change: str) -> None:
    headers = SigningKeys.of([NEW]).headers("id", int(time.time()), b"{}")
    body = b"{}"
    if change == "body":
        body = b"[]"
    else:
        headers[change] = {"webhook-id": "other", "webhook-timestamp": str(int(time.time()) - 1)}[change]
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        verify(NEW, headers, body)


def test_without_a_secret_nothing_pretends_to_be_signed() -> None:
    assert SigningKeys().headers("id", 1, b"{}") == {"webhook-id": "id", "webhook-timestamp": "1"}


@pytest.mark.parametrize("spelling", [NEW.removeprefix("whsec_"), NEW.rstrip("=")])
def test_a_secret_without_its_prefix_or_padding_is_the_same_secret(spelling: str) -> None:
    assert SigningKeys.of([spelling]) == SigningKeys.of([NEW])


@pytest.mark.parametrize(
    ("secret", "complaint"),
    [
        ("", "holds 0 bytes"),
        ("whsec_", "holds 0 bytes"),
        ("correct horse battery staple!", "base64"),
        ("whsec_" + "é" * 32, "base64"),
        ("whsec_" + base64.b64encode(b"s" * 23).decode(), "holds 23 bytes"),
        ("whsec_" + base64.b64encode(b"s" * 65).decode(), "holds 65 bytes"),
    ],
)
def test_a_secret_that_is_none_is_refused_without_being_shown(secret: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as refused:
        SigningKeys.of([secret])
    assert not secret or secret not in str(refused.value)


def test_keys_are_not_shown() -> None:
    assert "nnnn" not in repr(SigningKeys.of([NEW]))


@given(st.text(min_size=1), st.text(min_size=1))
def test_ids_on_the_wire_are_visible_ascii_without_full_stop_and_differ_where_the_ids_differ(a: str, b: str) -> None:
    assert re.fullmatch(r"[!-\-/-~]+", wire_id(a))
    assert (wire_id(a) == wire_id(b)) == (a == b)


def test_a_uuid_is_its_own_id_on_the_wire() -> None:
    assert wire_id("0198c0de-0000-7000-8000-000000000001") == "0198c0de-0000-7000-8000-000000000001"
