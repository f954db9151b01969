"""The line of a delivery task: one of each ordering key at a time, in order, and nobody else waits."""

from hypothesis import given
from hypothesis import strategies as st

from outbox.line import Line
from outbox.message import Claim


def claims(*names: str) -> list[Claim]:
    """``a1`` is the first of key ``a``; a name of one letter has no key."""
    return [Claim(name, lease=0, ordering_key=name[0] if len(name) > 1 else None) for name in names]


def ids(claims: list[Claim]) -> list[str]:
    return [claim.id for claim in claims]


def test_claims_without_a_key_and_the_first_of_each_key_are_ready_in_the_order_in_which_they_came() -> None:
    line = Line(claims("x", "a1", "a2", "y", "b1", "a3"))

    assert line.ready == 4
    assert ids(line.take_up(10)) == ["x", "a1", "y", "b1"]
    assert line.ready == 0


def test_no_more_are_taken_up_than_are_asked_for() -> None:
    line = Line(claims("x", "y", "z"))

    assert [ids(line.take_up(count)) for count in (0, 2, 2, 2)] == [[], ["x", "y"], ["z"], []]


def test_the_next_of_a_key_is_ready_when_the_one_before_was_delivered() -> None:
    line = Line(claims("a1", "a2", "a3"))
    line.take_up(1)

    assert line.ready == 0
    for delivered, follower in (("a1", "a2"), ("a2", "a3")):
        line.follow(delivered)
        assert ids(line.take_up(10)) == [follower]
    line.follow("a3")
    assert line.ready == 0


def test_with_a_key_window_those_behind_fill_the_room_that_is_left_key_by_turns() -> None:
    line = Line(claims("x", "a1", "a2", "b1", "a3", "b2", "a4"), key_window=9)

    assert ids(line.take_up(2)) == ["x", "a1"]
    assert ids(line.take_up(2)) == ["b1", "b2"]
    line.follow("a1")
    assert ids(line.take_up(9)) == ["a2", "a3", "a4"]


def test_no_more_of_a_key_are_taken_up_at_once_than_its_window() -> None:
    line = Line(claims("a1", "a2", "a3", "b1", "b2"), key_window=2)

    assert ids(line.take_up(9)) == ["a1", "b1", "a2", "b2"]
    assert line.ready == 0


def test_with_a_key_window_nobody_passes_a_key_that_is_ready() -> None:
    line = Line(claims("a1", "a2", "b1", "b2", "b3"), key_window=9)

    assert ids(line.take_up(4)) == ["a1", "b1", "a2", "b2"]
    assert ids(line.leave()) == ["b3"]


def test_a_follower_stands_behind_what_was_ready_before_it() -> None:
    line = Line(claims("a1", "x", "a2", "y"))
    assert ids(line.take_up(1)) == ["a1"]

    line.follow("a1")

    assert ids(line.take_up(10)) == ["x", "y", "a2"]


def test_what_stands_behind_one_that_was_not_delivered_leaves_the_line_and_other_keys_stay() -> None:
    line = Line(claims("a1", "a2", "b1", "a3", "b2"))
    line.take_up(2)

    assert ids(line.leave_behind("a1")) == ["a2", "a3"]
    line.follow("b1")
    assert ids(line.take_up(10)) == ["b2"]


def test_nobody_leaves_twice_and_nobody_follows_who_has_left() -> None:
    line = Line(claims("a1", "a2"))
    line.take_up(1)
    line.leave_behind("a1")

    assert line.leave_behind("a1") == []
    line.follow("a1")
    assert line.ready == 0


def test_one_without_a_key_and_one_of_another_task_hold_nobody_up() -> None:
    line = Line(claims("x", "a1", "a2"))
    line.take_up(2)

    for stranger in ("x", "of another task"):
        assert line.leave_behind(stranger) == []
        line.follow(stranger)
    assert line.ready == 0


def test_at_the_end_all_leave_whether_ready_or_not() -> None:
    line = Line(claims("a1", "a2", "x", "b1"))
    line.take_up(1)

    assert sorted(ids(line.leave())) == ["a2", "b1", "x"]
    assert (line.ready, line.leave(), line.leave_behind("a1")) == (0, [], [])


def test_a_key_is_a_name_within_the_line_whatever_it_looks_like() -> None:
    line = Line([Claim("first", 0, ""), Claim("second", 0, ""), Claim("free", 0, None)])

    assert ids(line.take_up(10)) == ["first", "free"]
    assert ids(line.leave_behind("first")) == ["second"]


@given(
    keys=st.lists(st.sampled_from([None, "a", "b", "c"]), max_size=12),
    outcomes=st.lists(st.booleans(), min_size=12, max_size=12),
    width=st.integers(min_value=1, max_value=4),
)
def test_whatever_becomes_of_the_sends_each_claim_is_begun_or_left_once_and_a_key_keeps_its_order(
    keys: list[str | None], outcomes: list[bool], width: int
) -> None:
    everyone = [Claim(f"m{number:02}", 0, key) for number, key in enumerate(keys)]
    line = Line(everyone)
    begun: list[Claim] = []
    left: list[Claim] = []
    while window := line.take_up(width):
        keys_at_once = [claim.ordering_key for claim in window if claim.ordering_key]
        assert len(set(keys_at_once)) == len(keys_at_once)
        for claim in window:
            begun.append(claim)
            if outcomes[len(begun) - 1]:
                line.follow(claim.id)
            else:
                left += line.leave_behind(claim.id)

    assert sorted(ids([*begun, *left])) == ids(everyone)
    assert line.leave() == []
    for key in ("a", "b", "c"):
        of_key = [claim.id for claim in begun if claim.ordering_key == key]
        assert of_key == sorted(of_key)
