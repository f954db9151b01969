"""What the exceptions of other libraries tell about a send: its stage, an HTTP status, the server's wish to wait.

Known by name and by attribute, so that none of those libraries has to be installed.
"""

from enum import Enum

_NOT_SENT = frozenset(
    {
        *("ConnectionRefusedError", "gaierror", "SSLCertVerificationError"),  # the standard library
        *("ConnectTimeoutError", "NewConnectionError", "ConnectTimeout"),  # urllib3, requests
        *("ConnectError", "PoolTimeout"),  # httpx
        *("ClientConnectorError", "ConnectionTimeoutError"),  # aiohttp
    }
)
_PERHAPS_SENT = frozenset(
    {
        *("TimeoutError", "ConnectionResetError", "ConnectionAbortedError", "BrokenPipeError", "HTTPException"),
        *("ReadTimeoutError", "ProtocolError", "ReadTimeout"),
        *("WriteTimeout", "ReadError", "WriteError"),
        *("ServerDisconnectedError", "ClientOSError", "ClientPayloadError"),
    }
)


class Stage(Enum):
    """How far a send came before it failed."""

    NOT_SENT = "not sent"
    PERHAPS_SENT = "perhaps sent"
    UNTOLD = "untold"


def stage_of(error: BaseException) -> Stage:
    """What the error, or the one that it was made from, tells of its stage. The most derived class that is known decides."""
    for link in _chain(error):
        for kind in type(link).__mro__:
            if kind.__name__ in _NOT_SENT:
                return Stage.NOT_SENT
            if kind.__name__ in _PERHAPS_SENT:
                return Stage.PERHAPS_SENT
    return Stage.UNTOLD


def status_of(error: BaseException) -> int | None:
    """The HTTP status that the error or its ``response`` carries, if it is one of a failure."""
    for holder in (error, getattr(error, "response", None)):
        for attribute in ("status", "status_code", "code"):
            status = getattr(holder, attribute, None)
            if type(status) is int and 300 <= status < 600:
                return status
    return None


def retry_after_of(error: BaseException) -> str | None:
    """The ``Retry-After`` header that the error or its ``response`` carries."""
    for holder in (error, getattr(error, "response", None)):
        get = getattr(getattr(holder, "headers", None), "get", None)
        wish = get("Retry-After") if callable(get) else None
        if isinstance(wish, str):
            return wish
    return None


def _chain(error: BaseException) -> list[BaseException]:
    """The error and what it was made from, by ``raise … from`` or as an argument, as requests and urllib do."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        origins = (link.__cause__, *link.args)
        link = next((origin for origin in origins if isinstance(origin, BaseException)), None)
    return chain
