"""What anybody may hand over: values of every type, texts that no database likes, numbers without end, nesting without end.

How many of them a test tries is Hypothesis's profile: the default looks for a moment, `--hypothesis-profile long` for an hour.
"""

from datetime import datetime, time
from typing import Any

from hypothesis import strategies as st

AWKWARD = [
    "\x00",
    "\ud800",
    "\udfff",
    "a\x00b",
    "\ufffe",
    "\u202e",
    "\x1b[2J",
    "\r\n",
    "'; drop table message_outbox; --",
    "%s",
    "$1",
]
texts = st.text(st.characters(codec=None), max_size=40) | st.sampled_from(AWKWARD) | st.sampled_from(["x" * 255, "é" * 5_000])
names = texts | st.text("abcxyz-_.", min_size=1, max_size=12)
"""Rather often what could be a name."""
huge = st.integers() | st.integers(2**62, 2**66) | st.integers(-(2**66), -(2**62)) | st.just(10**400)
numbers = huge | st.floats() | st.decimals()
json_scalars = st.none() | st.booleans() | huge | st.floats() | texts
json_values = st.recursive(
    json_scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)
"""What a JSON parser may return; Python's knows NaN, too."""
scalars = (
    json_scalars | numbers | st.binary(max_size=40) | st.uuids() | st.datetimes() | st.dates() | st.times() | st.timedeltas()
)
strange = st.complex_numbers() | st.frozensets(st.integers()) | st.builds(object)
values = st.recursive(
    scalars | strange,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(texts | st.just("$outbox") | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)


@st.composite
def nested(draw: st.DrawFn) -> Any:
    """Lists and dictionaries in each other, a level or thousands of them deep."""
    depth = draw(st.integers(1, 150) | st.just(5_000))
    value: Any = draw(json_scalars)
    for level in range(depth):
        value = [value] if level % 3 else {"in": value}
    return value


def shape(value: Any) -> Any:
    """The value with the type of each of its parts, so that 1, 1.0 and True differ, and 0.0 and -0.0 too."""
    if isinstance(value, dict):
        return "dict", [(key, shape(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return type(value).__name__, [shape(item) for item in value]
    if isinstance(value, datetime | time):
        value = value.replace(fold=0)
    return type(value).__name__, repr(value)
