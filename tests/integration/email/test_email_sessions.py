"""Sessions: encrypted, logged in, used again, replaced when they died, and ended."""

import asyncio
import socket
import ssl
from typing import Any

import pytest

from outbox.channels.email import Email
from outbox.channels.mail import sessions
from outbox.outcome import Deferred, Delivered, Outcome, Rejected, Retry
from tests.integration.email.conftest import MakeEmail, letter, outcome
from tests.integration.email.post_office import Act, PostOffice, open_post_office

LOGIN = ("apikey", "swordfish")


class TestReuse:
    async def test_one_after_the_other_they_share_a_session(self, email: Email, post_office: PostOffice) -> None:
        for _ in range(3):
            assert isinstance(await outcome(email, letter()), Delivered)
        assert [mail.connection for mail in post_office.mails] == [1, 1, 1]

    async def test_at_once_each_has_its_own_and_no_more_wait_than_may_be_sent_at_once(
        self, make_email: MakeEmail, post_office: PostOffice
    ) -> None:
        email = make_email(port=post_office.port, security="none", concurrency=2)
        came_to = await asyncio.gather(*(outcome(email, letter()) for _ in range(4)))
        assert [type(each) for each in came_to] == [Delivered] * 4
        assert post_office.connections == 4
        while post_office.commands.count("QUIT") < 2:
            await asyncio.sleep(0.01)
        await asyncio.gather(*(outcome(email, letter()) for _ in range(2)))
        assert post_office.connections == 4

    async def test_a_refused_mail_leaves_nothing_behind_for_the_next(self, email: Email, post_office: PostOffice) -> None:
        post_office.refused = {"bob@example.com": "550 5.1.1 unknown"}
        assert isinstance(await outcome(email, letter(target="bob@example.com")), Rejected)
        post_office.reactions["content"] = ["554 5.7.1 spam"]
        assert isinstance(await outcome(email, letter("buy!")), Rejected)
        assert isinstance(await outcome(email, letter()), Delivered)
        assert post_office.connections == 1

    async def test_one_that_was_cut_while_it_waited_is_replaced(self, email: Email, post_office: PostOffice) -> None:
        await outcome(email, letter())
        post_office.cut()
        assert isinstance(await outcome(email, letter()), Delivered)
        assert [mail.connection for mail in post_office.mails] == [1, 2]

    @pytest.mark.parametrize(
        ("stage", "reaction"),
        [
            ("RSET", Act.DROP),
            ("RSET", "421 4.4.2 idle for too long"),
            ("RSET", "hello?"),
            ("MAIL", Act.DROP),
            ("MAIL", "421 4.7.0 enough"),
            ("RCPT", Act.DROP),
            ("RCPT", "421 4.7.0 enough"),
        ],
    )
    async def test_one_that_the_server_ends_before_the_content_is_replaced_and_nobody_has_failed(
        self, email: Email, post_office: PostOffice, stage: str, reaction: Any
    ) -> None:
        await outcome(email, letter())
        post_office.reactions[stage] = [reaction]
        assert isinstance(await outcome(email, letter()), Delivered)
        assert [mail.connection for mail in post_office.mails] == [1, 2]

    async def test_one_that_no_longer_answers_is_replaced(
        self, email: Email, post_office: PostOffice, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("outbox.channels.mail.session._PROBE_TIMEOUT_S", 0.1)
        await outcome(email, letter())
        post_office.reactions["RSET"] = [Act.HANG]
        assert isinstance(await outcome(email, letter()), Delivered)
        assert [mail.connection for mail in post_office.mails] == [1, 2]

    async def test_one_that_nobody_needs_is_ended_with_courtesy(
        self, email: Email, post_office: PostOffice, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sessions, "_IDLE_S", 0.05)
        await outcome(email, letter())
        while "QUIT" not in post_office.commands:
            await asyncio.sleep(0.01)
        assert isinstance(await outcome(email, letter()), Delivered)
        assert post_office.connections == 2

    async def test_one_that_has_sent_enough_is_ended(
        self, email: Email, post_office: PostOffice, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sessions, "_MOST_PER_SESSION", 2)
        for _ in range(3):
            await outcome(email, letter())
        assert [mail.connection for mail in post_office.mails] == [1, 1, 2]

    async def test_one_whose_mail_was_cancelled_is_not_used_again(self, email: Email, post_office: PostOffice) -> None:
        post_office.reactions["content"] = [Act.HANG]
        send = asyncio.ensure_future(outcome(email, letter("first")))
        while "content" not in post_office.commands:
            await asyncio.sleep(0.01)
        send.cancel()
        await asyncio.gather(send, return_exceptions=True)
        assert isinstance(await outcome(email, letter("second")), Delivered)
        assert post_office.last.connection == 2

    async def test_they_belong_to_the_loop_that_opened_them(self, email: Email, post_office: PostOffice) -> None:
        await outcome(email, letter())

        async def send_and_close() -> Outcome:
            came_to = await outcome(email, letter())
            await email.aclose()
            return came_to

        assert isinstance(await asyncio.to_thread(asyncio.run, send_and_close()), Delivered)
        assert isinstance(await outcome(email, letter()), Delivered)
        assert [mail.connection for mail in post_office.mails] == [1, 2, 1]


class TestEncryption:
    async def test_starttls_comes_before_the_login(
        self, make_email: MakeEmail, server_tls: ssl.SSLContext, ca_file: str
    ) -> None:
        async with open_post_office(tls=server_tls, require_starttls=True, login=LOGIN) as office:
            email = make_email(host="localhost", port=office.port, ca_file=ca_file, username=LOGIN[0], password=LOGIN[1])
            assert isinstance(await outcome(email, letter()), Delivered)
            assert office.commands.index("STARTTLS") < office.commands.index("AUTH")
            await outcome(email, letter())
            assert office.connections == 1

    async def test_tls_from_the_first_byte(self, make_email: MakeEmail, server_tls: ssl.SSLContext, ca_file: str) -> None:
        async with open_post_office(tls=server_tls, from_the_start=True, login=LOGIN) as office:
            email = make_email(
                host="localhost", port=office.port, security="tls", ca_file=ca_file, username=LOGIN[0], password=LOGIN[1]
            )
            assert isinstance(await outcome(email, letter()), Delivered)
            assert "AUTH" in office.commands

    async def test_a_server_that_offers_none_hears_neither_login_nor_mail(self, make_email: MakeEmail) -> None:
        async with open_post_office() as office:
            for login in ({"username": LOGIN[0], "password": LOGIN[1]}, {}):
                came_to = await outcome(make_email(port=office.port, **login), letter())
                assert isinstance(came_to, Deferred)
                assert "STARTTLS" in came_to.reason
            assert set(office.commands) == {"greeting", "EHLO"}

    @pytest.mark.parametrize("security", ["starttls", "tls"])
    @pytest.mark.parametrize("stranger", ["authority", "name"])
    async def test_a_certificate_of_somebody_else_is_refused(
        self, make_email: MakeEmail, server_tls: ssl.SSLContext, ca_file: str, security: str, stranger: str
    ) -> None:
        other: dict[str, Any] = {"ca_file": ca_file, "host": "127.0.0.1"} if stranger == "name" else {"host": "localhost"}
        async with open_post_office(tls=server_tls, from_the_start=security == "tls") as office:
            email = make_email(port=office.port, security=security, **other)
            came_to = await outcome(email, letter())
            assert isinstance(came_to, Retry)
            assert "CERTIFICATE_VERIFY_FAILED" in came_to.error
            assert office.mails == []


class TestLogin:
    @pytest.mark.proves("T14")
    async def test_a_wrong_password_destroys_no_message_and_is_told_without_it(
        self, make_email: MakeEmail, server_tls: ssl.SSLContext, ca_file: str
    ) -> None:
        async with open_post_office(tls=server_tls, login=LOGIN) as office:
            email = make_email(host="localhost", port=office.port, ca_file=ca_file, username="apikey", password="marlin")
            came_to = await outcome(email, letter())
            assert isinstance(came_to, Deferred)
            assert "login refused: 535" in came_to.reason
            assert "MAIL" not in office.commands

    @pytest.mark.parametrize("words", ["454 4.7.0 later", "534 5.7.9 use an application's password", "535 5.7.8 no"])
    async def test_whatever_the_login_comes_to_the_message_is_kept(
        self, make_email: MakeEmail, server_tls: ssl.SSLContext, ca_file: str, words: str
    ) -> None:
        async with open_post_office(tls=server_tls, login=LOGIN) as office:
            office.reactions["AUTH"] = [words] * 3
            email = make_email(host="localhost", port=office.port, ca_file=ca_file, username=LOGIN[0], password=LOGIN[1])
            assert isinstance(await outcome(email, letter()), Deferred)

    async def test_a_server_that_echoes_the_password_does_not_get_it_into_a_text(
        self, make_email: MakeEmail, server_tls: ssl.SSLContext, ca_file: str
    ) -> None:
        plain = "AGFwaWtleQBzd29yZGZpc2g="
        async with open_post_office(tls=server_tls, login=LOGIN) as office:
            office.reactions["AUTH"] = [f"535 you said swordfish, {plain} and c3dvcmRmaXNo"] * 3
            email = make_email(host="localhost", port=office.port, ca_file=ca_file, username=LOGIN[0], password=LOGIN[1])
            came_to = await outcome(email, letter())
        assert isinstance(came_to, Deferred)
        assert came_to.reason.count("[removed]") == 3
        assert "swordfish" not in came_to.reason + repr(email.__dict__)

    async def test_a_server_without_login_is_not_ready(
        self, make_email: MakeEmail, server_tls: ssl.SSLContext, ca_file: str
    ) -> None:
        async with open_post_office(tls=server_tls, auth_exclude_mechanism=["LOGIN", "PLAIN"]) as office:
            email = make_email(host="localhost", port=office.port, ca_file=ca_file, username=LOGIN[0], password=LOGIN[1])
            assert isinstance(await outcome(email, letter()), Deferred)

    async def test_each_account_has_sessions_of_its_own(
        self, make_email: MakeEmail, server_tls: ssl.SSLContext, ca_file: str
    ) -> None:
        async with open_post_office(tls=server_tls, login=LOGIN) as office:
            accounts = {
                "shop": {"username": LOGIN[0], "password": LOGIN[1]},
                "desk": {"username": "desk", "password": "marlin"},
            }
            email = make_email(host="localhost", port=office.port, ca_file=ca_file, accounts=accounts)
            assert isinstance(await outcome(email, letter(account_id="shop")), Delivered)
            assert isinstance(await outcome(email, letter(account_id="desk")), Deferred)
            assert isinstance(await outcome(email, letter(account_id="shop")), Delivered)


async def test_a_server_that_is_not_there_is_tried_again(make_email: MakeEmail) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    came_to = await outcome(make_email(port=port), letter())
    assert isinstance(came_to, Retry)
    assert "refused" in came_to.error or "Connect call failed" in came_to.error


async def test_a_name_that_does_not_resolve_is_tried_again(make_email: MakeEmail, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    came_to = await outcome(make_email(host="smtp.nowhere.example"), letter())
    assert isinstance(came_to, Retry)
    assert "Name or service not known" in came_to.error


async def test_a_connection_that_takes_too_long_is_given_up(
    make_email: MakeEmail, post_office: PostOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outbox.channels.email.CONNECT_TIMEOUT_S", 0.1)
    post_office.reactions["greeting"] = [Act.HANG]
    came_to = await outcome(make_email(port=post_office.port, security="none"), letter())
    assert came_to == Retry("no connection: timed out")


async def test_a_server_that_never_greets_is_given_its_share_of_the_time(email: Email, post_office: PostOffice) -> None:
    post_office.reactions["greeting"] = [Act.HANG]
    came_to = await outcome(email, letter(), timeout_s=0.5)
    assert isinstance(came_to, Retry)
    assert isinstance(await outcome(email, letter()), Delivered)
