"""The channel in the guide works as the guide says."""

import re
from pathlib import Path
from typing import Any

import pytest

from outbox.testing.trial import on_trial

GUIDE = Path(__file__).parents[3] / "docs/guides/write-a-channel.md"


@pytest.fixture
def pager() -> Any:
    """The class of the guide's first block."""
    block = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)[0]
    names: dict[str, Any] = {}
    exec(block, names)
    return names["Pager"]


class Gateway:
    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.paged: list[tuple[str, str, str]] = []

    def page(self, number: str, text: str, *, key: str) -> str:
        self.paged.append((number, text, key))
        return self.answer


@pytest.mark.parametrize(
    ("answer", "status"), [("page-7", "delivered"), ("busy", "failed_retryable"), ("unknown number", "failed_terminal")]
)
def test_the_channel_of_the_guide_comes_to_what_its_gateway_says(pager: Any, answer: str, status: str) -> None:
    gateway = Gateway(answer)
    with on_trial(pager(gateway=gateway)) as trial:
        message_id = trial.enqueue(target="+1555", payload={"text": "hello"})
        message = trial.deliver(message_id)

    assert message.status == status
    assert gateway.paged == [("+1555", "hello", message_id)]
    assert message.receipt == ({"provider_id": "page-7"} if status == "delivered" else None)
