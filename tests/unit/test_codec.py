"""R2: every value comes back equal and of the same type, or is refused where it is enqueued."""

import json
import math
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox import codec
from outbox.codec import DecodeError, EncodeError
from tests.fuzzing import shape

BERLIN = ZoneInfo("Europe/Berlin")

offsets = st.integers(min_value=-86_399, max_value=86_399).map(lambda seconds: timezone(timedelta(seconds=seconds)))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(min_value=-(10**40), max_value=10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.datetimes()
    | st.datetimes(timezones=offsets)
    | st.dates()
    | st.times()
    | st.times(timezones=offsets)
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.binary(max_size=40)
)
keys = st.text(max_size=8).filter(lambda key: key != codec.TAG)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.lists(inner, max_size=4).map(tuple) | st.dictionaries(keys, inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.mark.proves("R2")
@given(values)
def test_r2_what_goes_in_comes_out_equal_and_of_the_same_type(value: Any) -> None:
    assert shape(codec.decode(codec.encode(value))) == shape(value)


@given(values)
def test_what_is_stored_is_ascii_that_every_database_takes(value: Any) -> None:
    text = codec.encode(value)
    assert text is None or (text.isascii() and "\0" not in text)


@pytest.mark.proves("R2")
def test_r2_threads_and_addresses_keep_their_types() -> None:
    for value in (42, "42", "1782584644.377229", "+1555", "", 0, False, [], {}):
        assert shape(codec.decode(codec.encode(value))) == shape(value)


@pytest.mark.proves("R2")
def test_r2_absent_null_and_empty_stay_apart() -> None:
    assert codec.encode(None) is None
    assert codec.decode(None) is None
    assert codec.decode(codec.encode({"thread": None})) == {"thread": None}
    assert codec.decode(codec.encode({})) == {}
    assert codec.decode(codec.encode("")) == ""


def test_a_time_in_a_named_zone_keeps_its_instant_and_offset() -> None:
    for fold in (0, 1):
        moment = datetime(2026, 10, 25, 2, 30, fold=fold, tzinfo=BERLIN)
        back = codec.decode(codec.encode(moment))
        assert back.utcoffset() == moment.utcoffset()
        assert back.timestamp() == moment.timestamp()


def test_a_subclass_of_text_is_stored_as_plain_text() -> None:
    class SafeText(str):
        __slots__ = ()

        def __str__(self) -> str:
            return "something else"

    assert shape(codec.decode(codec.encode([SafeText("hi"), {SafeText("key"): 1}]))) == shape(["hi", {"key": 1}])


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 1


class Pair(NamedTuple):
    left: int
    right: int


class Opaque:
    pass


@pytest.mark.proves("R2")
@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({"chat": {"when": [1, Opaque()]}}, "$.chat.when[1] is a tests.unit.test_codec.Opaque"),
        ((1, {2}), "$[1] is a builtins.set"),
        (Colour.RED, "Colour, which cannot be stored; convert it first"),
        (Level.HIGH, "Level, which cannot be stored"),
        (Pair(1, 2), "Pair, which cannot be stored"),
        (bytearray(b"x"), "bytearray"),
        (1j, "complex"),
        ({"a": math.nan}, "$.a is nan, which JSON cannot hold"),
        ([math.inf], "$[0] is inf"),
        (-math.inf, "$ is -inf"),
        ({1: "a"}, "$ has a key of type int; keys must be text"),
        ({"a": {None: 1}}, "$.a has a key of type NoneType"),
        ({Colour.RED: 1}, "$ has a key of type Colour"),
        ({"a": [{codec.TAG: ["UUID", "x"]}]}, "$.a[0] has the key '$outbox', which is reserved"),
        ("\ud800", "$ holds half of a surrogate pair"),
        ({"a": "\ud83d\ude00"}, "$.a holds half of a surrogate pair"),
        ({"\udfff": 1}, "$ holds half of a surrogate pair"),
        (time(12, tzinfo=BERLIN), "$ is a time whose zone gives it no offset"),
        (10**5000, "Exceeds the limit"),
    ],
    ids=lambda case: case if isinstance(case, str) and case.isascii() else "",
)
def test_r2_what_would_not_come_back_is_refused_with_its_path(value: Any, complaint: str) -> None:
    with pytest.raises(EncodeError) as refused:
        codec.encode(value)
    assert complaint in str(refused.value)


def nested(levels: int) -> Any:
    value: Any = "deep"
    for _ in range(levels):
        value = [value]
    return value


def test_nesting_has_a_limit_that_also_ends_circles() -> None:
    assert codec.decode(codec.encode(nested(codec.MAX_DEPTH))) == nested(codec.MAX_DEPTH)
    with pytest.raises(EncodeError, match="nested deeper than 100 levels"):
        codec.encode(nested(codec.MAX_DEPTH + 1))
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(EncodeError, match="nested deeper"):
        codec.encode(circle)


def test_a_refusal_does_not_grow_with_the_keys() -> None:
    with pytest.raises(EncodeError) as refused:
        codec.encode({"k" * 100_000: Opaque()})
    assert len(str(refused.value)) < 500


@pytest.mark.proves("R19")
@pytest.mark.parametrize(
    "text",
    [
        "", "{", "nonsense", "[1,", '{"a":NaN}', "Infinity", "-Infinity", "[" * 100_000,
        '{"$outbox":["UUID","x"],"more":1}', '{"$outbox":["unheard-of","x"]}', '{"$outbox":"UUID"}', '{"$outbox":[]}',
        '{"$outbox":null}', '{"$outbox":[["UUID"],"x"]}', '{"$outbox":["UUID",5]}', '{"$outbox":["UUID","no uuid"]}',
        '{"$outbox":["datetime","yesterday"]}', '{"$outbox":["date",20]}', '{"$outbox":["time","25:00"]}',
        '{"$outbox":["timedelta",[1]]}', '{"$outbox":["timedelta",[1000000000000,0,0]]}', '{"$outbox":["timedelta","1d"]}',
        '{"$outbox":["Decimal","ten"]}', '{"$outbox":["Decimal",[1,2]]}', '{"$outbox":["bytes","*"]}',
        '{"$outbox":["bytes","ä"]}', '{"$outbox":["tuple","abc"]}', '{"$outbox":["tuple",{}]}',
    ],
)  # fmt: skip
def test_r19_a_corrupt_text_is_told_from_every_other_failure(text: str) -> None:
    with pytest.raises(DecodeError) as told:
        codec.decode(text)
    assert str(told.value)


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")) | values.map(lambda v: (codec.encode(v) or "")[:-1]))
def test_r19_any_text_is_read_or_refused_and_nothing_else(text: str) -> None:
    with suppress(DecodeError):
        codec.decode(text)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_r19_any_tagged_content_is_read_or_refused_and_nothing_else(content: Any) -> None:
    for kind in ("datetime", "date", "time", "timedelta", "Decimal", "UUID", "bytes", "tuple", "other"):
        with suppress(DecodeError):
            codec.decode(json.dumps({codec.TAG: [kind, content]}))


def test_a_corrupt_texts_error_does_not_quote_what_it_holds() -> None:
    with pytest.raises(DecodeError) as told:
        codec.decode('{"card":{"$outbox":["datetime","4111 1111"]}}')
    assert "4111" not in str(told.value)


def test_values_of_each_kind_survive_as_such() -> None:
    value = {
        "datetime": datetime(2026, 11, 23, 8, 0, 0, 123456, UTC),
        "naive": datetime(2026, 11, 23),  # noqa: DTZ001 - that it stays naive is the point
        "date": date(2026, 11, 23),
        "time": time(8, 30, tzinfo=timezone(timedelta(hours=5, minutes=45))),
        "pause": timedelta(days=-1, microseconds=7),
        "price": Decimal("10.00"),
        "infinity": Decimal("-Infinity"),
        "id": UUID("0198c0de-0000-7000-8000-000000000001"),
        "raw": b"\x00\xff",
        "pair": (1, ("2",)),
    }
    assert shape(codec.decode(codec.encode(value))) == shape(value)
