from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox.channels.egress import Egress, EgressRefused

PUBLIC = Egress.of(allow_http=True)

NOT_PUBLIC = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",  # IPv4-compatible
    "::ffff:127.0.0.1",  # IPv4-mapped
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",  # IPv4-translated
    "64:ff9b::7f00:1",  # NAT64
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",  # Teredo
    "2001:db8::1",
    "2002:7f00:1::1",  # 6to4
    "2002:808:808::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]

PUBLIC_ADDRESSES = ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_is_not_public_is_refused_in_a_url_and_from_a_name(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(EgressRefused, match="not public"):
        PUBLIC.url(f"http://{host}/")
    with pytest.raises(EgressRefused, match="not public"):
        PUBLIC.only_permitted("receiver.example", [address])


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
def test_a_public_address_is_permitted(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    assert PUBLIC.url(f"http://{host}/")
    assert PUBLIC.only_permitted("receiver.example", [address]) == [address]


@given(st.one_of(st.integers(0, 2**32 - 1).map(IPv4Address), st.integers(0, 2**128 - 1).map(IPv6Address),
                 st.integers(0, 2**125 - 1).map(lambda low: IPv6Address((1 << 125) | low))))  # fmt: skip
def test_whatever_is_permitted_is_global_and_no_multicast(address: IPv4Address | IPv6Address) -> None:
    if PUBLIC.permits(address):
        assert address.is_global
        assert not address.is_multicast
        assert not address.is_reserved


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",  # 127.0.0.1 in decimal
        "0x7f000001",
        "017700000001",
        "127.1",
        "127.0.1",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "127.0.0.01",
        "127.0.0.1.",
        "1.1.1.256",
        "1.2.3.4.5",
        "receiver.0x7f",
        "4294967296",
        "0x",
        "[fe80::1%25eth0]",
        "[::1%25lo]",
    ],
)
def test_an_address_in_an_odd_notation_is_refused(host: str) -> None:
    with pytest.raises(EgressRefused):
        PUBLIC.url(f"http://{host}/")


@pytest.mark.parametrize("host", ["①②⑦.⓪.⓪.①", "１２７.0.0.1", "127。0。0。1", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]"])
def test_an_address_in_disguise_is_recognised(host: str) -> None:
    with pytest.raises(EgressRefused, match="not public"):
        PUBLIC.url(f"http://{host}/")


@pytest.mark.parametrize(
    "target",
    [
        "",
        "receiver.example/hook",
        "//receiver.example/hook",
        "ftp://receiver.example/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http:///hook",
        "http://",
        "http://receiver.example:0/",
        "http://receiver.example:65536/",
        "http://receiver.example:80a/",
        "http://[::1/",
        "http://receiver example/",
        "http://receiver.example/a b",
        "http://receiver.exa\nmple/",
        "http://receiver.example/\r\nX-Injected: 1",
        "http://receiver.example\\@10.0.0.1/",
        "http://%31%30.0.0.1/",
        "http://rec!eiver.example/",
        "http://" + "a" * 300 + "/",
    ],
)
def test_what_is_no_http_url_is_refused(target: str) -> None:
    with pytest.raises(EgressRefused):
        PUBLIC.url(target)


@pytest.mark.parametrize("credentials", ["user:swordfish@", "swordfish@", ":swordfish@", ":@"])
def test_credentials_in_a_url_are_refused_and_not_repeated(credentials: str) -> None:
    with pytest.raises(EgressRefused, match="credentials") as refused:
        PUBLIC.url(f"https://{credentials}receiver.example/swordfish")
    assert "swordfish" not in str(refused.value)


def test_plain_http_is_refused_unless_it_is_allowed() -> None:
    with pytest.raises(EgressRefused, match="allow_http"):
        Egress().url("http://receiver.example/")
    assert Egress().url("https://receiver.example/")
    assert Egress.of(allow_http=True).url("http://receiver.example/")


def test_only_the_configured_ports_are_open() -> None:
    egress = Egress.of(ports=[443, 8443])
    assert egress.url("https://receiver.example/")
    assert egress.url("https://receiver.example:8443/")
    with pytest.raises(EgressRefused, match="port 25 is not allowed"):
        egress.url("https://receiver.example:25/")


def test_of_mixed_addresses_only_the_public_ones_are_left() -> None:
    assert PUBLIC.only_permitted("receiver.example", ["10.0.0.1", "1.1.1.1", "::1", "2606:4700::1111"]) == [
        "1.1.1.1",
        "2606:4700::1111",
    ]


def test_an_allowed_network_opens_its_addresses_however_they_are_written_and_no_others() -> None:
    egress = Egress.of(allow_networks=["127.0.0.0/8", "fd00::/64"], allow_http=True)
    for url in ("http://127.0.0.1/", "http://[::ffff:127.0.0.1]/", "http://[fd00::1]/"):
        assert egress.url(url)
    for address in ("10.0.0.1", "169.254.169.254", "::1", "fd00:0:0:1::1"):
        assert not egress.permits(ip_address(address))


def test_an_allowed_host_is_trusted_wherever_it_resolves_to_and_no_other_is() -> None:
    egress = Egress.of(allow_hosts=["Receiver.internal", "bücher.internal"])
    assert egress.only_permitted("receiver.internal", ["10.0.0.1"]) == ["10.0.0.1"]
    assert egress.only_permitted("xn--bcher-kva.internal", ["10.0.0.1"]) == ["10.0.0.1"]
    with pytest.raises(EgressRefused):
        egress.only_permitted("receiver.internal.attacker.example", ["10.0.0.1"])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"allow_networks": ["10.0.0.1/8"]}, "host bits"),
        ({"allow_networks": ["intranet"]}, "intranet"),
        ({"allow_networks": [167772160]}, "167772160"),
        ({"allow_networks": "10.0.0.0/8"}, "allow_networks must be a list"),
        ({"allow_hosts": "receiver"}, "allow_hosts must be a list"),
        ({"allow_hosts": ["http://receiver"]}, "not a host name"),
        ({"allow_hosts": ["receiver:8080"]}, "not a host name"),
        ({"allow_hosts": ["user@receiver"]}, "not a host name"),
        ({"allow_hosts": ["receiver/hook"]}, "not a host name"),
        ({"allow_hosts": [""]}, "not a host name"),
        ({"allow_http": "false"}, "allow_http must be true or false"),
        ({"ports": [0]}, "0 is not a port"),
        ({"ports": [True]}, "True is not a port"),
        ({"ports": 443}, "ports must be a list"),
    ],
)
def test_configuration_that_means_nothing_is_refused(options: dict, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Egress.of(**options)
