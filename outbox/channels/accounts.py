"""Whose credentials a message is sent with: its ``account_id`` names them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from outbox.errors import InvalidMessage, did_you_mean


@dataclass(frozen=True, slots=True)
class Accounts:
    """Tokens by account id; the empty id is the channel's own."""

    tokens: Mapping[str, str] = field(repr=False)

    @classmethod
    def of(cls, token: Any, accounts: Any, shape: re.Pattern[str]) -> "Accounts":
        """From the options ``token`` and ``accounts``. Raises :class:`ValueError`, whose text holds no token."""
        if not isinstance(accounts, Mapping | None):
            raise ValueError("accounts must be a table of tables")
        tokens = {} if token is None else {"": _checked(token, shape, "token")}
        for account, table in (accounts or {}).items():
            tokens[account] = _of_table(account, table, shape)
        if not tokens:
            raise ValueError("give a token, or accounts that have one each")
        return cls(tokens)

    def token(self, account_id: str) -> str:
        """The account's token. Raises :class:`~outbox.errors.InvalidMessage` for one that is not configured."""
        if account_id in self.tokens:
            return self.tokens[account_id]
        known = ", ".join(repr(account) for account in sorted(self.tokens))
        hint = did_you_mean(account_id, self.tokens)
        raise InvalidMessage(f"no account {account_id!r} is configured{hint} (configured: {known})")


def _of_table(account: Any, table: Any, shape: re.Pattern[str]) -> str:
    if not isinstance(account, str) or not isinstance(table, Mapping):
        raise ValueError(f"account {account!r} must be a table with a token")
    for option in table:
        if option != "token":
            raise ValueError(f"account {account!r} has no option {option!r}{did_you_mean(str(option), ['token'])}")
    return _checked(table.get("token"), shape, f"the token of account {account!r}")


def _checked(token: Any, shape: re.Pattern[str], what: str) -> str:
    if not isinstance(token, str) or not shape.fullmatch(token):
        raise ValueError(f"{what} does not look like one: copy it whole, without spaces, quotes or a prefix")
    return token
