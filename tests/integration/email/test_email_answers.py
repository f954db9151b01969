"""What a server's answer comes to, at every stage of the dialogue."""

from typing import Any

import pytest

from outbox.channels.email import Email
from outbox.outcome import Deferred, Delivered, Outcome, Rejected, Retry, Unknown
from outbox.policy.retry import Backoff
from tests.integration.email.conftest import ANN, MakeEmail, letter, outcome
from tests.integration.email.post_office import Act, PostOffice, open_post_office


@pytest.mark.parametrize(
    ("stage", "words", "kind"),
    [
        ("greeting", "554 no service here", Deferred),
        ("greeting", "421 too many connections", Retry),
        ("EHLO", "550 go away", Deferred),
        ("EHLO", "451 not now", Retry),
        ("MAIL", "550 5.7.1 not your address", Rejected),
        ("MAIL", "452 4.3.1 disk full", Retry),
        ("MAIL", "530 5.7.0 log in first", Deferred),
        ("MAIL", "421 closing", Retry),
        ("MAIL", "252 perhaps", Retry),
        ("RCPT", "550 5.1.1 unknown", Rejected),
        ("RCPT", "450 4.2.0 greylisted", Retry),
        ("RCPT", "552 too many recipients", Retry),
        ("RCPT", "421 closing", Retry),
        ("DATA", "554 no valid recipients", Rejected),
        ("DATA", "451 later", Retry),
        ("DATA", "421 closing", Retry),
        ("content", "554 5.7.1 spam", Rejected),
        ("content", "552 5.3.4 too big", Rejected),
        ("content", "451 4.7.1 try again", Retry),
        ("content", "421 closing", Retry),
        ("content", "354 go on", Unknown),
        ("content", "thank you", Unknown),
    ],
)
@pytest.mark.proves("R5")
async def test_the_first_digit_decides_and_the_stage_says_about_whom_it_is(
    email: Email, post_office: PostOffice, stage: str, words: str, kind: type[Outcome]
) -> None:
    post_office.reactions[stage] = [words]
    came_to = await outcome(email, letter())
    assert isinstance(came_to, kind), came_to
    assert post_office.mails == []
    assert isinstance(await outcome(email, letter()), Delivered)


@pytest.mark.parametrize("stage", ["greeting", "EHLO", "MAIL", "RCPT"])
@pytest.mark.parametrize("act", Act)
async def test_a_server_that_goes_or_falls_silent_before_the_content_has_got_nothing(
    email: Email, post_office: PostOffice, stage: str, act: Act
) -> None:
    post_office.reactions[stage] = [act]
    came_to = await outcome(email, letter(), timeout_s=1.0 if act is Act.HANG else 10.0)
    assert isinstance(came_to, Retry), came_to
    assert post_office.mails == []


@pytest.mark.parametrize("stage", ["DATA", "content"])  # the library does not tell whether the content was begun
async def test_a_server_that_goes_when_the_content_was_begun_leaves_an_unknown_outcome(
    email: Email, post_office: PostOffice, stage: str
) -> None:
    post_office.reactions[stage] = [Act.DROP]
    assert isinstance(await outcome(email, letter()), Unknown)


async def test_greylisting_and_a_busy_server_are_given_time(make_email: MakeEmail, post_office: PostOffice) -> None:
    email = make_email(port=post_office.port, security="none", backoff=Backoff((5.0, 2000.0), jitter=0))
    for words, number, pause_s in (
        ("451 4.7.1 greylisted", 1, 300),
        ("450 4.2.0 greylisted", 2, 2000),
        ("421 4.3.2 busy", 1, 60),
        ("421 4.3.2 busy", 2, 2000),
    ):
        post_office.reactions["content"] = [words]
        came_to = await outcome(email, letter(), number=number)
        assert came_to == Retry(came_to.error, pause_s * 1000)  # type: ignore[union-attr]
    post_office.reactions["content"] = ["452 4.3.1 disk full"]
    came_to = await outcome(email, letter())
    assert isinstance(came_to, Retry)
    assert came_to.after_ms is None


class TestRecipients:
    @pytest.mark.proves("R15", "T31")
    async def test_those_who_are_refused_stand_in_the_receipt_of_what_was_sent_to_the_others(
        self, email: Email, post_office: PostOffice
    ) -> None:
        post_office.refused = {"bob@example.com": "550 5.1.1 no such user", "eve@example.com": "451 4.7.1 greylisted"}
        came_to = await outcome(email, letter({"text": "x", "cc": "bob@example.com", "bcc": "eve@example.com"}))
        assert isinstance(came_to, Delivered)
        assert came_to.receipt.details == {
            "answer": "2.0.0 Ok: queued as Q0001",
            "refused": [
                {"recipient": "bob@example.com", "code": 550, "text": "5.1.1 no such user"},
                {"recipient": "eve@example.com", "code": 451, "text": "4.7.1 greylisted"},
            ],
        }
        assert post_office.last.recipients == [ANN]

    @pytest.mark.parametrize(
        ("ann", "bob", "kind"),
        [
            ("550 5.1.1 unknown", "553 5.1.3 bad", Rejected),
            ("550 5.1.1 unknown", "450 4.2.1 greylisted", Retry),
            ("452 4.2.2 mailbox full", "450 4.2.1 busy", Retry),
        ],
    )
    async def test_when_all_are_refused_it_is_tried_again_if_one_may_be_taken_later(
        self, email: Email, post_office: PostOffice, ann: str, bob: str, kind: type[Outcome]
    ) -> None:
        post_office.refused = {ANN: ann, "bob@example.com": bob}
        came_to = await outcome(email, letter(target=f"{ANN}, bob@example.com"))
        assert isinstance(came_to, kind)
        assert ann in came_to.error  # type: ignore[union-attr]
        assert bob in came_to.error  # type: ignore[union-attr]
        assert "DATA" not in post_office.commands

    async def test_a_server_that_closes_among_them_has_taken_nobody(self, email: Email, post_office: PostOffice) -> None:
        post_office.reactions["RCPT"] = ["250 OK", "421 4.3.2 closing"]
        came_to = await outcome(email, letter(target=f"{ANN}, bob@example.com"))
        assert isinstance(came_to, Retry)
        assert came_to.error.startswith("recipient refused: 421")


async def test_what_the_server_says_is_kept_in_one_line_and_without_the_recipients(
    email: Email, post_office: PostOffice
) -> None:
    post_office.refused = {ANN: f"550-5.1.1 <{ANN.upper()}>: unknown\r\n550 5.1.1 \x1b[31msee the manual"}
    came_to = await outcome(email, letter())
    assert came_to == Rejected("every recipient refused: 550 5.1.1 <[removed]>: unknown 5.1.1 [31msee the manual")


async def test_a_message_above_the_servers_limit_is_not_offered_to_it(make_email: MakeEmail) -> None:
    async with open_post_office(data_size_limit=1000) as office:
        email = make_email(port=office.port, security="none")
        came_to = await outcome(email, letter("x" * 1000))
        assert isinstance(came_to, Rejected)
        assert "the server takes 1000" in came_to.error
        assert "MAIL" not in office.commands
        assert isinstance(await outcome(email, letter("x")), Delivered)
        assert office.connections == 1


async def test_a_message_above_the_channels_own_limit_is_not_sent_at_all(
    make_email: MakeEmail, post_office: PostOffice
) -> None:
    email = make_email(port=post_office.port, security="none", max_bytes=1000)
    came_to = await outcome(email, letter({"media": [{"data": b"x" * 900, "name": "x.bin"}]}))
    assert isinstance(came_to, Rejected)
    assert "1000 are allowed" in came_to.error
    assert post_office.connections == 0


async def test_a_server_without_smtputf8_is_not_offered_an_address_in_other_letters(make_email: MakeEmail) -> None:
    async with open_post_office(enable_SMTPUTF8=False) as office:
        email = make_email(port=office.port, security="none")
        came_to = await outcome(email, letter(target="jürgen@example.com"))
        assert isinstance(came_to, Rejected)
        assert "SMTPUTF8" in came_to.error
        assert "MAIL" not in office.commands
        assert isinstance(await outcome(email, letter({"text": "ü", "from_name": "Jürgen"})), Delivered)


@pytest.mark.parametrize(
    "payload",
    [{"subject": "nothing to say"}, {"txt": "x"}, {"text": "x", "extra": {"subject": "x"}}, 42],
)
@pytest.mark.proves("T37", "T4")
async def test_what_no_mail_can_say_fails_for_good(email: Email, post_office: PostOffice, payload: Any) -> None:
    assert isinstance(await outcome(email, letter(payload)), Rejected)
    assert post_office.connections == 0
