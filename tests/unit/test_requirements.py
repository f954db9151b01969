"""Every requirement and every trap has a test that says so."""

from docs import requirements


def test_every_requirement_and_trap_is_proven_by_a_test() -> None:
    unproven = [name for name, tests in requirements.proofs().items() if not tests]

    assert unproven == []


def test_no_test_proves_what_is_not_on_the_list() -> None:
    assert set(requirements.proofs()) == {*requirements.REQUIREMENTS, *requirements.TRAPS}


def test_the_page_shows_the_marks_as_they_are() -> None:
    assert requirements.PAGE.read_text(encoding="utf-8") == requirements.page(), "run `python -m docs.requirements`"
