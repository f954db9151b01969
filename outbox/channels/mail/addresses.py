"""Addresses as RFC 5322 writes them in headers, with the letters that RFC 6531 adds."""

import re
from email.errors import InvalidHeaderDefect, MessageError
from email.headerregistry import Address
from email.policy import SMTPUTF8
from typing import Any

LONGEST_LIST = 8_000
"""Characters: the time to read them grows with their square."""

_LONGEST_LOCAL_PART = 64
_LONGEST_DOMAIN = 255
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_LOCAL_PART = re.compile(r'[^\s"(),.:;<>@\[\]\\]+(?:\.[^\s"(),.:;<>@\[\]\\]+)*')
_LABEL = r"[^\W_](?:[\w-]{0,61}[^\W_])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")


def read_addresses(text: str, what: str) -> tuple[Address, ...]:
    """The addresses of a list such as ``Ann <ann@example.com>, bob@example.com``; ``what`` it is stands in errors.

    Quoted local parts, address literals and groups are refused: what is rare in mail is common in attacks. Raises
    :class:`ValueError`, whose text holds no address.
    """
    if has_controls(text):  # a line break would begin a header, or an SMTP command, of the sender's own
        raise ValueError(f"{what} holds a line break or another control character")
    header = _parsed(text, what)
    if any(group.display_name is not None for group in header.groups):
        raise ValueError(f"{what} holds a group; name its addresses one by one")
    if not header.addresses:
        raise ValueError(f"{what} holds no address")
    for place, address in enumerate(header.addresses, 1):
        _check(address, what if len(header.addresses) == 1 else f"address {place} of {what}")
    return tuple(header.addresses)


def read_address(text: str, what: str) -> Address:
    """The only address of ``text``. Raises :class:`ValueError`, whose text holds no address."""
    addresses = read_addresses(text, what)
    if len(addresses) > 1:
        raise ValueError(f"{what} holds {len(addresses)} addresses, and may hold one")
    return addresses[0]


def has_controls(text: str) -> bool:
    """Whether it holds what may not stand in a header: line breaks, other control characters, half characters."""
    return _CONTROL.search(text) is not None


def is_domain(text: str) -> bool:
    """Whether it is a host name, in ASCII or in the letters of its own language."""
    return _DOMAIN.fullmatch(text) is not None and len(text.encode()) <= _LONGEST_DOMAIN


def _parsed(text: str, what: str) -> Any:
    if len(text) > LONGEST_LIST:
        raise ValueError(f"{what} has {len(text)} characters, and may have {LONGEST_LIST}")
    try:
        header: Any = SMTPUTF8.header_factory("To", text)
    except (AttributeError, LookupError, MessageError, RecursionError, TypeError, ValueError):
        header = None  # the standard library's parser stumbles over much that is no mail
    if header is None or any(isinstance(defect, InvalidHeaderDefect) for defect in header.defects):
        raise ValueError(f"{what} is not a list of addresses such as 'Ann <ann@example.com>, bob@example.com'")
    return header


def _check(address: Address, what: str) -> None:
    if has_controls(address.display_name):  # hidden in an encoded word
        raise ValueError(f"the name in {what} holds a control character")
    if not _LOCAL_PART.fullmatch(address.username) or len(address.username.encode()) > _LONGEST_LOCAL_PART:
        raise ValueError(f"what stands before the @ in {what} is not the name of a mailbox")
    if not is_domain(address.domain):
        raise ValueError(f"what stands behind the @ in {what} is not a domain")
