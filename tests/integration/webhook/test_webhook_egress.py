"""Where a webhook connects to, and where it does not."""

import asyncio
import socket
import ssl
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

from outbox.errors import RetryLater
from outbox.outcome import Delivered, Rejected, Retry
from tests.factories import attempt, message
from tests.integration.webhook.conftest import MakeWebhook, NameService, outcome
from tests.receiver import Receiver, receiving


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://2130706433:{port}/",
        "http://0x7f000001:{port}/",
        "http://127.1:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://[::1]:{port}/",
        "http://0.0.0.0:{port}/",
        "http://10.0.0.5:{port}/",
        "http://169.254.169.254:{port}/latest/meta-data/",
        "http://[fd00:ec2::254]:{port}/",
    ],
)
async def test_nothing_that_is_not_public_is_connected_to(url: str, receiver: Receiver, webhook: MakeWebhook) -> None:
    channel = webhook(allow_networks=[])
    assert isinstance(await outcome(channel, message(target=url.format(port=receiver.port))), Rejected)
    assert receiver.connections == 0


async def test_a_name_that_leads_inside_is_refused_for_good_and_the_address_is_named(
    receiver: Receiver, webhook: MakeWebhook, names: NameService
) -> None:
    names.resolve("receiver.example", ["127.0.0.1", "::1"])
    refused = await outcome(
        webhook(allow_networks=[]), message(target=f"http://receiver.example:{receiver.port}/hook?token=swordfish")
    )
    assert refused == Rejected("receiver.example leads to 127.0.0.1, ::1, which is not public (allow_networks could allow it)")
    assert receiver.connections == 0


async def test_a_name_in_an_odd_notation_that_resolvers_understand_is_judged_by_its_address(
    receiver: Receiver, webhook: MakeWebhook, names: NameService
) -> None:
    names.resolve("0x7f000001.example", ["127.0.0.1"])
    channel = webhook(allow_networks=[])
    assert isinstance(await outcome(channel, message(target=f"http://0x7f000001.example:{receiver.port}/")), Rejected)


async def test_a_name_is_resolved_once_and_the_judged_address_is_the_one_connected_to(
    receiver: Receiver, webhook: MakeWebhook, names: NameService
) -> None:
    """DNS rebinding: the second answer leads somewhere else, and nobody asks for it."""
    names.resolve("rebinding.example", ["127.0.0.1"], ["127.0.0.2"])
    delivered = await outcome(
        webhook(allow_networks=["127.0.0.1/32"]), message(target=f"http://rebinding.example:{receiver.port}/hook")
    )
    assert isinstance(delivered, Delivered)
    assert names.asked == ["rebinding.example"]
    assert receiver.last.headers["host"] == f"rebinding.example:{receiver.port}"


async def test_a_name_that_turned_inside_is_refused_at_the_next_resolution(
    receiver: Receiver, webhook: MakeWebhook, names: NameService
) -> None:
    names.resolve("rebinding.example", ["127.0.0.1"], ["127.0.0.2"])
    sent = message(target=f"http://rebinding.example:{receiver.port}/hook")
    options = {"allow_networks": ["127.0.0.1/32"]}
    assert isinstance(await outcome(webhook(**options), sent), Delivered)
    assert isinstance(await outcome(webhook(**options), sent), Rejected)  # a new channel remembers no address


async def test_of_mixed_addresses_only_the_allowed_one_is_tried(
    receiver: Receiver, webhook: MakeWebhook, names: NameService
) -> None:
    async with receiving() as forbidden:
        forbidden_port = forbidden.port
        names.resolve("mixed.example", ["127.0.0.2", "127.0.0.1", "::1", "10.0.0.1"])
        channel = webhook(allow_networks=["127.0.0.1/32"])
        assert isinstance(await outcome(channel, message(target=f"http://mixed.example:{receiver.port}/")), Delivered)
        names.resolve("wrong.example", ["127.0.0.1", "10.0.0.1"])
        channel = webhook(allow_networks=["127.0.0.2/32"])
        assert isinstance(await outcome(channel, message(target=f"http://wrong.example:{forbidden_port}/")), Rejected)
        assert forbidden.connections == 0


async def test_an_allowed_host_is_reached_wherever_it_is_and_its_neighbours_are_not(
    receiver: Receiver, webhook: MakeWebhook, names: NameService
) -> None:
    names.resolve("receiver.internal", ["127.0.0.1"])
    names.resolve("other.internal", ["127.0.0.1"])
    channel = webhook(allow_networks=[], allow_hosts=["receiver.internal"])
    assert isinstance(await outcome(channel, message(target=f"http://receiver.internal:{receiver.port}/")), Delivered)
    assert isinstance(await outcome(channel, message(target=f"http://other.internal:{receiver.port}/")), Rejected)


async def test_a_connection_that_one_channel_may_hold_is_not_lent_to_one_that_may_not(
    receiver: Receiver, webhook: MakeWebhook, names: NameService
) -> None:
    names.resolve("receiver.internal", ["127.0.0.1"])
    sent = message(target=f"http://receiver.internal:{receiver.port}/")
    assert isinstance(await outcome(webhook(), sent), Delivered)
    assert isinstance(await outcome(webhook(allow_networks=[]), sent), Rejected)
    assert len(receiver.requests) == 1


async def test_proxies_of_the_environment_are_not_used(
    receiver: Receiver, webhook: MakeWebhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiving() as proxy:
        for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        assert isinstance(await outcome(webhook(), message(target=receiver.url)), Delivered)
        assert proxy.connections == 0


async def test_a_refused_connection_is_tried_again(webhook: MakeWebhook) -> None:
    refused = await outcome(webhook(), message(target=f"http://127.0.0.1:{free_port()}/?token=swordfish"))
    assert isinstance(refused, Retry)
    assert refused.error.startswith("no connection: ")
    assert "refused" in refused.error.lower() or "Connect call failed" in refused.error
    assert "swordfish" not in refused.error


@pytest.mark.parametrize("errno", [socket.EAI_NONAME, socket.EAI_AGAIN])
async def test_a_name_that_cannot_be_resolved_is_tried_again(errno: int, webhook: MakeWebhook, names: NameService) -> None:
    names.resolve("receiver.example", socket.gaierror(errno, "no luck with the name"))
    failed = await outcome(webhook(), message(target="http://receiver.example/?token=swordfish"))
    assert failed == Retry("no connection: host name not resolved: no luck with the name")


async def test_a_name_that_no_resolver_takes_is_refused(webhook: MakeWebhook) -> None:
    for host in ("a" * 64 + ".example", "receiver..example"):
        assert await outcome(webhook(), message(target=f"http://{host}/")) == Rejected("the target's host is not a valid name")


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port whose queue of connections is full: it neither accepts nor refuses."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield int(listening.getsockname()[1])


@pytest.mark.parametrize(("connect_timeout", "timeout_s"), [(0.2, 1000.0), (1000.0, 0.3)])
async def test_a_connection_that_does_not_come_about_in_time_is_tried_again(
    connect_timeout: float, timeout_s: float, deaf_port: int, webhook: MakeWebhook
) -> None:
    channel = webhook(connect_timeout=connect_timeout)
    sent = message(target=f"http://127.0.0.1:{deaf_port}/?token=swordfish")
    with pytest.raises(RetryLater, match=r"^no connection: timed out$") as failed:
        await channel.send_final(sent, attempt(sent, timeout_s=timeout_s))
    assert "swordfish" not in "".join(traceback.format_exception(failed.value))


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return str(tmp_path / "ca.pem")


@pytest.fixture
async def tls_receiver(authority: trustme.CA) -> AsyncIterator[Receiver]:
    """Shows a certificate for receiver.example."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("receiver.example").configure_cert(context)
    async with receiving(context) as receiver:
        yield receiver


async def test_over_tls_the_name_is_asked_for_and_verified_although_the_address_is_connected_to(
    tls_receiver: Receiver, ca_file: str, webhook: MakeWebhook, names: NameService
) -> None:
    names.resolve("receiver.example", ["127.0.0.1"], OSError("asked twice"))
    channel = webhook(ca_file=ca_file, allow_http=False)
    sent = message(target=f"https://receiver.example:{tls_receiver.port}/hook")
    assert isinstance(await outcome(channel, sent), Delivered)
    assert tls_receiver.last.headers["host"] == f"receiver.example:{tls_receiver.port}"


async def test_a_certificate_for_another_name_is_tried_again_and_nothing_is_sent(
    tls_receiver: Receiver, ca_file: str, webhook: MakeWebhook, names: NameService
) -> None:
    names.resolve("other.example", ["127.0.0.1"])
    failed = await outcome(webhook(ca_file=ca_file), message(target=f"https://other.example:{tls_receiver.port}/"))
    assert isinstance(failed, Retry)
    assert "TLS certificate refused" in failed.error
    assert "other.example" in failed.error
    assert tls_receiver.requests == []


async def test_a_certificate_of_an_unknown_authority_is_tried_again_and_nothing_is_sent(
    tls_receiver: Receiver, webhook: MakeWebhook, names: NameService
) -> None:
    names.resolve("receiver.example", ["127.0.0.1"])
    failed = await outcome(webhook(), message(target=f"https://receiver.example:{tls_receiver.port}/"))
    assert isinstance(failed, Retry)
    assert "TLS certificate refused" in failed.error
    assert tls_receiver.requests == []


async def test_a_port_that_speaks_no_tls_is_tried_again_and_nothing_is_sent(receiver: Receiver, webhook: MakeWebhook) -> None:
    failed = await outcome(webhook(), message(target=f"https://127.0.0.1:{receiver.port}/"), timeout_s=0.3)
    assert isinstance(failed, Retry)
    assert receiver.requests == []


async def test_a_reset_in_the_middle_of_the_tls_handshake_is_tried_again(webhook: MakeWebhook) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.transport.abort()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        failed = await outcome(webhook(), message(target=f"https://127.0.0.1:{port}/"))
    assert isinstance(failed, Retry)
