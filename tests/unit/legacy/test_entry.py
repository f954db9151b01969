"""What is read in a file of the old queue, and what is refused, and why."""

import json
import uuid
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from outbox.legacy.entry import MOST_PARTS, MOST_RETRIES, Entry, EntryRefused, identify, parse

ID = "6f0c2b1e-9b7d-4a55-8a2e-2f7f3c1d9e40"

DOCUMENTED = """{
  "id": "6f0c2b1e-9b7d-4a55-8a2e-2f7f3c1d9e40",
  "enqueuedAt": 1772182496123,
  "channel": "telegram",
  "to": "-1001234567890",
  "accountId": "default",
  "payloads": [
    { "text": "Nightly report: 3 jobs failed.", "replyToId": "4711" },
    { "text": "", "mediaUrl": "https://example.com/chart.png" }
  ],
  "threadId": 42,
  "replyToId": null,
  "bestEffort": true,
  "silent": false,
  "mirror": { "sessionKey": "agent:main:telegram:group:-1001234567890", "agentId": "main" },
  "retryCount": 2,
  "lastAttemptAt": 1772182531207,
  "lastError": "ETIMEDOUT"
}"""


def test_the_documented_example_is_read_with_every_value_and_type():
    assert parse(DOCUMENTED.encode(), ID) == Entry(
        id=ID,
        channel="telegram",
        target="-1001234567890",
        account_id="",
        parts=[
            {"text": "Nightly report: 3 jobs failed.", "replyToId": "4711"},
            {"text": "", "mediaUrl": "https://example.com/chart.png"},
        ],
        options={
            "accountId": "default",
            "threadId": 42,
            "replyToId": None,
            "bestEffort": True,
            "silent": False,
            "mirror": {"sessionKey": "agent:main:telegram:group:-1001234567890", "agentId": "main"},
        },
        enqueued_at=1772182496123,
        retry_count=2,
        last_attempt_at=1772182531207,
        last_error="ETIMEDOUT",
    )


def test_options_that_nobody_has_heard_of_are_kept():
    assert read(audioAsVoice=True, profile=None, note="").options == {"audioAsVoice": True, "profile": None, "note": ""}


@pytest.mark.parametrize("thread", [42, "42", "1782584644.377229", 4.5, None])
def test_R2_a_thread_keeps_its_type(thread: object):
    kept = read(threadId=thread).options["threadId"]
    assert (kept, type(kept)) == (thread, type(thread))


@pytest.mark.parametrize("account", [..., None, "", "default"])
def test_the_channels_own_account_is_absent_null_empty_or_default(account: object):
    assert read(accountId=account).account_id == ""


@pytest.mark.parametrize("value", [..., None, "1772182496123", True, [], {}, float("nan"), float("inf"), float("-inf"), "soon"])
def test_T20_a_time_that_is_no_number_counts_as_missing(value: object):
    entry = read(enqueuedAt=value, lastAttemptAt=value)
    assert (entry.enqueued_at, entry.last_attempt_at) == (None, None)


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (..., 0), (None, 0), ("3", 0), (True, 0), (float("nan"), 0), (float("inf"), 0), (-1, 0), (-1e300, 0), (0, 0), (3, 3),
        (2.9, 2), (1_350, 1_350), (1e300, MOST_RETRIES), (10**400, MOST_RETRIES),
    ],
)  # fmt: skip
def test_T20_a_retry_count_is_a_whole_number_from_0(value: object, count: int):
    assert read(retryCount=value).retry_count == count


@pytest.mark.parametrize(
    ("value", "text"), [(..., None), (None, None), ("", ""), ("ETIMEDOUT", "ETIMEDOUT"), ({"code": 3}, '{"code": 3}')]
)
def test_the_last_error_keeps_its_text(value: object, text: str | None):
    assert read(lastError=value).last_error == text


def test_an_error_that_no_database_can_store_is_made_storable():
    assert read(lastError="a\0b\ud800c").last_error == "a\N{REPLACEMENT CHARACTER}b?c"
    assert len(read(lastError="x" * 100_000).last_error or "") == 4_000


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b" \n\t", "it is empty"),
        (b"{", "it is not JSON"),
        (b'{"id": "6f0c2b1e', "it is not JSON"),
        (b"\xff\xfe{}", "it is not UTF-8: invalid start byte at byte 0"),
        ('{"id": "x"}'.encode("utf-16"), "it is not UTF-8"),
        (b"[" * 200_000, "it is nested too deeply"),
        (b'{"a":' * 200_000, "it is nested too deeply"),
        (b'{"retryCount": ' + b"9" * 5_000 + b"}", "it is not JSON"),
        (b"[]", "it is JSON, but not an object"),
        (b"null", "it is JSON, but not an object"),
        (b'"text"', "it is JSON, but not an object"),
        (b"{}", "it has no id"),
        (b'{"id": 7}', "its id is not the one in its name"),
    ],
)
def test_T21_a_file_that_holds_no_entry_is_refused(content: bytes, reason: str):
    with pytest.raises(EntryRefused, match=reason):
        parse(content, ID)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": ...}, "it has no id"),
        ({"id": "00000000-0000-4000-8000-000000000000"}, "its id is not the one in its name"),
        ({"id": ID.upper()}, "its id is not the one in its name"),
        ({"channel": ...}, "it has no channel"),
        ({"channel": ""}, "its channel is empty"),
        ({"channel": ["telegram"]}, "its channel is not text"),
        ({"to": None}, "it has no to"),
        ({"to": -1001234567890}, "its to is not text"),
        ({"accountId": 7}, "its accountId is not text"),
        ({"payloads": ...}, "it has no list of payloads"),
        ({"payloads": {"text": "hi"}}, "it has no list of payloads"),
        ({"payloads": []}, "its payloads are empty"),
        ({"payloads": ["hi"]}, "one of its payloads is not an object"),
        ({"payloads": [{"text": "hi"}, None]}, "one of its payloads is not an object"),
        ({"payloads": [{}] * (MOST_PARTS + 1)}, "100 are the most"),
    ],
)
def test_an_entry_that_nobody_could_deliver_is_refused(change: dict[str, Any], reason: str):
    with pytest.raises(EntryRefused, match=reason):
        read(**change)


@pytest.mark.parametrize("stem", ["", "abc", "../../etc/passwd", ID[:-1], ID + "0", f"{{{ID}}}", f"urn:uuid:{ID}", ID + "\n"])
def test_a_name_that_is_no_uuid_is_refused(stem: str):
    with pytest.raises(EntryRefused, match="its name is not the UUID of an entry"):
        identify(stem)


def test_a_name_in_capitals_is_the_same_entry():
    assert identify(ID.upper()) == ID
    assert read(id=ID.upper(), stem=ID.upper()).id == ID.upper()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
KEYS = (
    "id", "enqueuedAt", "channel", "to", "accountId", "payloads", "threadId", "replyToId", "mirror", "retryCount",
    "lastAttemptAt", "lastError",
)  # fmt: skip


@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_whatever_a_file_holds_it_is_an_entry_or_refused(content: bytes):
    parsed_or_refused(content)


@given(st.dictionaries(st.sampled_from(KEYS), json_values))
@example({"payloads": [{}], "lastError": float("nan")})
def test_whatever_an_entry_has_under_its_keys_it_is_read_or_refused(change: dict[str, Any]):
    entry = parsed_or_refused(written({**change, "id": ID}))
    if entry is not None:
        assert 0 <= entry.retry_count <= MOST_RETRIES
        assert 1 <= len(entry.parts) <= MOST_PARTS


@given(st.data())
def test_a_file_that_was_cut_short_or_damaged_is_read_or_refused(data: st.DataObject):
    content = bytearray(DOCUMENTED.encode())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    parsed_or_refused(bytes(content[: data.draw(st.integers(0, len(content)))]))


def parsed_or_refused(content: bytes) -> Entry | None:
    try:
        return parse(content, ID)
    except EntryRefused:
        return None


def read(stem: str = ID, **change: Any) -> Entry:
    return parse(written(change), stem)


def written(change: dict[str, Any]) -> bytes:
    document = {"id": ID, "channel": "telegram", "to": "-1", "payloads": [{"text": str(uuid.NAMESPACE_URL)}], **change}
    return json.dumps({key: value for key, value in document.items() if value is not ...}).encode()
