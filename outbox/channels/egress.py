"""Guarded egress: where a channel may connect to.

Targets come from users of the application, so without a guard a webhook could be pointed at the machine itself, the
private network or a cloud's metadata service. By default a channel reaches public addresses alone, over TLS alone. The
guard judges the very address that is connected to, after name resolution, never only the name.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from yarl import URL

from outbox.errors import PermanentFailure

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]{0,252})")
_NUMERIC_LABEL = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)\.*")
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f]")

# The special-purpose registries of IANA (RFC 6890), multicast, and what is reserved. Written down, because what
# `ipaddress` calls global differs between Python releases, and multicast and transition addresses are global to it.
_SPECIAL_IPV4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # shared by carriers; the metadata service of Alibaba
            "127.0.0.0/8",  # loopback
            "168.63.129.16/32",  # the platform service of Azure: public by number, internal by nature
            "169.254.0.0/16",  # link-local; the metadata service of most clouds
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocol assignments; the metadata service of Oracle
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",  # private
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved; broadcast
        ),
    )
)
_GLOBAL_UNICAST_IPV6 = IPv6Network("2000::/3")
_SPECIAL_IPV6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments; Teredo, which hides an IPv4 address
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4, which hides an IPv4 address
            "3fff::/20",  # documentation
        ),
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")


class EgressRefused(PermanentFailure):
    """The target may not be connected to, by configuration. Nothing was sent."""


@dataclass(frozen=True, slots=True)
class Egress:
    """What a channel may connect to, beyond public addresses over TLS."""

    allow_networks: tuple[Network, ...] = ()
    """Networks that may be reached although they are not public."""
    allow_hosts: frozenset[str] = frozenset()
    """Host names that are trusted wherever they resolve to."""
    allow_http: bool = False
    """Whether plain ``http://`` may be used."""
    ports: frozenset[int] | None = None
    """The only ports that may be connected to; ``None`` allows all."""

    @classmethod
    def of(
        cls,
        *,
        allow_networks: Sequence[str] = (),
        allow_hosts: Sequence[str] = (),
        allow_http: bool = False,
        ports: Sequence[int] | None = None,
    ) -> "Egress":
        """From configuration. Raises :class:`ValueError` that says what is wrong."""
        if not isinstance(allow_http, bool):
            raise ValueError("allow_http must be true or false")
        return cls(
            allow_networks=tuple(_network(network) for network in _list("allow_networks", allow_networks)),
            allow_hosts=frozenset(_trusted_name(host) for host in _list("allow_hosts", allow_hosts)),
            allow_http=allow_http,
            ports=None if ports is None else frozenset(_port(port) for port in _list("ports", ports)),
        )

    def url(self, text: str) -> URL:
        """``text`` as a URL that may be requested, if its host's addresses may. Raises :class:`EgressRefused`.

        No name is resolved here; the text of the error holds neither path, query nor credentials.
        """
        url = _parsed(text)
        if url.scheme not in ("http", "https") or not url.raw_host:
            raise EgressRefused("the target is not an absolute http or https URL")
        if url.raw_user is not None or url.raw_password is not None:
            raise EgressRefused("credentials in the URL are refused: put them into a header of the channel")
        if url.scheme == "http" and not self.allow_http:
            raise EgressRefused("plain http is refused: use https, or set allow_http = true")
        if not url.port or (self.ports is not None and url.port not in self.ports):
            raise EgressRefused(f"port {url.port} is not allowed")
        literal = _literal(url.raw_host)
        if literal is not None:
            self.only_permitted(url.raw_host, [str(literal)])
        return url

    def only_permitted(self, host: str, addresses: Iterable[str]) -> list[str]:
        """Those of the host's ``addresses`` that may be connected to. Raises :class:`EgressRefused` when none may."""
        found = list(addresses)
        if host in self.allow_hosts:
            return found
        permitted = [address for address in found if self.permits(ip_address(address))]
        if not permitted:
            raise EgressRefused(f"{host} leads to {', '.join(found)}, which is not public (allow_networks could allow it)")
        return permitted

    def permits(self, address: Address) -> bool:
        """Whether the address is public, or in an allowed network."""
        meant = _meant(address)
        return _is_public(meant) or any(address in network or meant in network for network in self.allow_networks)


def _parsed(text: str) -> URL:
    # The parser drops tabs and newlines; what a person reads in the target must be what is connected to.
    if _UNPRINTABLE.search(text):
        raise EgressRefused("the target holds a space or a control character")
    try:
        return URL(text)
    except ValueError as error:
        raise EgressRefused(f"the target is not a URL: {error}") from None


def _literal(host: str) -> Address | None:
    """The address that ``host`` spells, or ``None`` when it is a name.

    Resolvers also read ``127.1``, ``2130706433`` and ``0x7f.1``. As in the WHATWG URL standard a host that ends in a
    number is an address; unlike there, only its plain notation is accepted, so that every program reads it alike.
    """
    if ":" in host or _NUMERIC_LABEL.fullmatch(host.rstrip(".").rpartition(".")[2]):
        try:
            return ip_address(host)
        except ValueError:
            raise EgressRefused(f"{host!r} is not a plain IP address") from None
    if not _NAME.fullmatch(host):
        raise EgressRefused("the target's host is not a valid name")
    return None


def _meant(address: Address) -> Address:
    """The IPv4 address inside an IPv4-mapped or NAT64 address, where the packets will go; else the address itself."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_IPV4)
    return address in _GLOBAL_UNICAST_IPV6 and not any(address in network for network in _SPECIAL_IPV6)


def _list(option: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{option} must be a list")
    return value


def _network(network: Any) -> Network:
    if not isinstance(network, str):
        raise ValueError(f"{network!r} is not a network")
    return ip_network(network)


def _trusted_name(host: Any) -> str:
    try:
        url = URL(f"https://{host}/")
    except ValueError:
        url = URL()
    if url.raw_host is None or not _NAME.fullmatch(url.raw_host) or str(url) != f"https://{url.raw_host}/":
        raise ValueError(f"{host!r} is not a host name; leave out scheme, port and path")
    return url.raw_host


def _port(port: Any) -> int:
    if type(port) is not int or not 0 < port < 65536:
        raise ValueError(f"{port!r} is not a port number")
    return int(port)
