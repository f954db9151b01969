"""What is refused at enqueue: what is no address, what would write headers of its own, and what no mail can say."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from outbox import NewMessage
from outbox.channels.email import Email
from outbox.channels.mail import letter
from outbox.channels.mail.account import Account
from outbox.channels.mail.addresses import read_addresses
from outbox.channels.mail.composing import compose
from outbox.errors import InvalidMessage
from tests import factories

ANN = "ann@example.com"
ACCOUNT = Account().refined({"host": "smtp.example.com", "sender": "orders@shop.example"})


@pytest.fixture(scope="module")
def email() -> Email:
    return Email(host="smtp.example.com", sender="orders@shop.example", accounts={"desk": {"sender": "desk@shop.example"}})


def check(email: Email, payload: Any = "hello", **fields: Any) -> None:
    email.check_message(NewMessage(**{"channel": "email", "target": ANN, "payload": payload, **fields}))


@pytest.mark.parametrize(
    "target",
    [
        ANN,
        "Ann <ann@example.com>",
        '"Li, Bo" <bo+news@mail.example.com>, ann@example.com',
        "Dr. Who <o'brien_w!{}@example.com>",
        "jürgen@straße.example",
        "用户@例子.广告",
        "root@localhost",
    ],
)
def test_addresses_as_people_write_them_are_taken(email: Email, target: str) -> None:
    check(email, target=target)


@pytest.mark.parametrize(
    "target",
    [
        "ann",
        "ann@",
        "@example.com",
        "ann@example..com",
        "ann@-example.com",
        "an..n@example.com",
        "ann@example.com bob@example.com",
        "ann@example.com\r\nBcc: spy@example.com",
        "ann@example.com\nspy@example.com",
        "Ann\x00 <ann@example.com>",
        "=?utf-8?q?Ann=0D=0ABcc:_spy@example.com?= <ann@example.com>",
        "=?utf-8?q?Ann=00=1B?= <ann@example.com>",
        '"ann spy@example.com>"@example.com',
        "ann@[127.0.0.1]",
        "friends: ann@example.com, bob@example.com;",
        "<ann@example.com> SIZE=1",
        "x" * 65 + "@example.com",
        "ann@" + "x" * 64 + ".com",
        ",",
        '"',
        "(" * 1990,
        ", ".join(f"a{number}@example.com" for number in range(101)),
    ],
)
@pytest.mark.proves("R21")
def test_what_is_no_address_is_refused_without_being_repeated(email: Email, target: str) -> None:
    with pytest.raises(InvalidMessage, match="channel 'email'") as refused:
        check(email, target=target)
    assert "spy" not in str(refused.value)
    assert "ann@example" not in str(refused.value).replace("ann@example.com>, bob@example.com'", "")


@pytest.mark.parametrize(
    ("payload", "complaint"),
    [
        ({"txt": "x"}, "did you mean 'text'"),
        ({"text": "x", "subjekt": "x"}, "did you mean 'subject'"),
        ({"text": "x", "extra": {"subject": "x"}}, "unknown field 'extra'"),
        (42, "a text or a dictionary"),
        ({}, "nothing to send"),
        ({"subject": "x", "text": " \n", "html": " "}, "nothing to send"),
        ({"text": "x", "subject": "x\r\nBcc: spy@example.com"}, "subject holds a line break"),
        ({"text": "x", "subject": "x\u2028y"}, "subject holds a line break"),
        ({"text": "x", "subject": "x" * 901}, "subject has 901 characters"),
        ({"text": "x", "subject": 7}, "subject is a int"),
        ({"text": "x", "html": b"x"}, "html is a bytes"),
        ({"text": "x\ud800"}, "half a character"),
        ({"text": "x", "from_name": "Shop\n<spy@example.com>"}, "from_name holds a line break"),
        ({"text": "x", "cc": "A\udcff <a@example.com>"}, "cc holds a line break or another"),
        ({"text": "x", "cc": 7}, "cc must be"),
        ({"text": "x", "bcc": ["ann@example.com", None]}, "bcc must be"),
        ({"text": "x", "cc": ["ann@example.com"] * 600}, "cc has 9000 characters"),
        ({"text": "x", "cc": [ANN, "bob"]}, "cc is not a list of addresses"),
        ({"text": "x", "reply_address": "a@example.com, b@example.com"}, "reply_address holds 2 addresses"),
        ({"text": "x", "reply_to": 42}, "reply_to must be the Message-ID"),
        ({"text": "x", "reply_to": "<a@b>\r\n c@d"}, "reply_to must be the Message-ID"),
        ({"text": "x", "thread_id": "no id"}, "thread_id must be the Message-ID"),
        ({"text": "x", "headers": ["X: y"]}, "headers must be a dictionary"),
        ({"text": "x", "headers": {"X-Y": "a\r\nBcc: spy@example.com"}}, "without line breaks"),
        ({"text": "x", "headers": {"X-Y: a\r\nBcc": "spy@example.com"}}, "not the name of a header"),
        ({"text": "x", "headers": {"Bcc": "spy@example.com"}}, "which the channel sets itself"),
        ({"text": "x", "headers": {"message-ID": "<a@b>"}}, "which the channel sets itself"),
        ({"text": "x", "headers": {"Content-Type": "text/html"}}, "which the channel sets itself"),
        ({"text": "x", "headers": {"X-Y": "y" * 901}}, "no longer than a line"),
        ({"text": "x", "headers": {"X-Y": 7}}, "must be text"),
        ({"media": [{"data": b""}]}, "holds 0 bytes"),
        ({"media": ["file:///etc/passwd"]}, "not an absolute http or https URL"),
        ({"media": ["https://example.com/a%0D%0Ab.png"]}, "control character"),
        ({"html": '<img src="cid:logo.png">'}, "0 media have that name"),
        ({"html": '<img src="cid:lgo.png">', "media": [{"data": b"x", "name": "logo.png"}]}, "did you mean 'logo.png'"),
        ({"html": "<img src='cid:a'>", "media": [{"data": b"x", "name": "a"}, {"data": b"y", "name": "a"}]}, "2 media"),
        ({"html": "<img src=cid:a@b>", "media": [{"data": b"x", "name": "a@b"}]}, "such names have letters"),
        ({"html": "<img src=cid:a.txt>", "media": [{"data": b"x", "name": "a.txt"}]}, "no picture"),
    ],
)
@pytest.mark.proves("R21", "T37")
def test_what_no_mail_can_say_is_refused_at_enqueue(email: Email, payload: Any, complaint: str) -> None:
    with pytest.raises(InvalidMessage, match=complaint):
        check(email, payload)


def test_an_account_that_nobody_configured_is_refused(email: Email) -> None:
    check(email, account_id="desk")
    with pytest.raises(InvalidMessage, match="no account 'desc' is configured; did you mean 'desk'"):
        check(email, account_id="desc")


def test_a_message_without_a_target_is_refused(email: Email) -> None:
    with pytest.raises(InvalidMessage, match="needs a target"):
        check(email, target="")


@given(some.text(), some.text(), some.text())
def test_no_text_writes_a_header_or_a_recipient_of_its_own(subject: str, name: str, address: str) -> None:
    payload = {"text": "x", "subject": subject, "from_name": name, "cc": address or ANN, "headers": {"X-Own": subject}}
    try:
        said = letter.read(ANN, payload, longest=1000)
    except InvalidMessage:
        return
    mail = compose(said, ACCOUNT, factories.message())
    head = mail.content.partition(b"\r\n\r\n")[0].decode()
    names = [line.partition(":")[0] for line in head.split("\r\n") if not line.startswith((" ", "\t"))]
    assert names == ["From", "To", "Cc", "Subject", "Date", "Message-ID", "X-Own", "Content-Type",
                     "Content-Transfer-Encoding", "MIME-Version"]  # fmt: skip
    assert not any(set(recipient) & set("\r\n <>") for recipient in mail.recipients)


@given(some.text())
def test_whatever_is_read_as_addresses_is_one_word_each(text: str) -> None:
    try:
        addresses = read_addresses(text, "it")
    except ValueError:
        return
    assert all(len(address.addr_spec.split()) == 1 for address in addresses)
