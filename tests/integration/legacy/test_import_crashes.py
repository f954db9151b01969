"""The process is killed, at every step of an import: nothing is lost, nothing is in two places, and the next run goes on."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from outbox import Outbox
from outbox.channels.base import FunctionChannel
from outbox.legacy import import_directory
from outbox.lifecycle import Status
from tests.crash.arming import ANY, Act, Plans
from tests.crash.hand import Hand
from tests.integration.legacy.queues import HOUR_MS, LegacyQueue, Sent, an_entry, now_ms, parts

ROOT = Path(__file__).parents[3]
MOST_STEPS = 100
FILES_A_BATCH = 3


@pytest.fixture
def hand() -> Iterator[Hand]:
    hand = Hand()
    yield hand
    hand.close()


def killed_at(hand: Hand, step: int, url: str, queue: LegacyQueue) -> bool:
    """Import in a process that dies at that step: before or after a commit, before or after a file is moved; whether it did."""
    plans = queue.path.with_suffix(".plans")
    plans.mkdir()
    Plans(plans).lay(ANY, {step: Act.KILL})
    exit_code = hand.does("import", plans, url=url, directory=str(queue.path), files_a_batch=FILES_A_BATCH)
    assert exit_code in (0, -9)
    return exit_code == -9


class Expected:
    """A queue with an entry of every sort, and what has to become of each."""

    def __init__(self, queue: LegacyQueue, size: int = 1) -> None:
        self.live: list[str] = []
        self.expired: list[str] = []
        self.dead: list[str] = []
        self.sent: list[str] = []
        self.refused: set[str] = set()
        begun = now_ms() - 600_000
        for number in range(size):
            self.live.append(queue.pending(enqueuedAt=begun + number, payloads=[{"text": "one"}, {"text": "two"}], to="a chat"))
            self.live.append(queue.pending(retryCount=1, lastAttemptAt=begun, threadId=number, to="threads"))
            self.expired.append(queue.pending(enqueuedAt=now_ms() - HOUR_MS))
            self.dead.append(queue.dead(retryCount=5, lastError="ETIMEDOUT"))
            self.sent.append(queue.pending())
            queue.file(f"{self.sent[-1]}.delivered", "{}")
            alone = str(an_entry()["id"])
            self.sent.append(alone)
            queue.file(f"{alone}.delivered", "{}")
            broken = f"{an_entry()['id']}.json"
            queue.file(broken, "{")
            self.refused.add(broken)

    def check(self, outbox: Outbox) -> None:
        """Each message is there once, and of the sent ones there is none."""
        for entries, wanted, messages in (
            (self.live[::2], {Status.QUEUED}, 2),
            (self.live[1::2], {Status.FAILED_RETRYABLE}, 1),
            (self.expired, {Status.EXPIRED}, 1),
            (self.dead, {Status.FAILED_TERMINAL}, 1),
            (self.sent, set[Status](), 0),
        ):
            for entry in entries:
                found = parts(outbox, entry)
                assert len(found) == messages, entry
                assert {message.status for message in found} == wanted, entry

    @property
    def deliveries(self) -> list[str]:
        """What has to go out, each once."""
        return [f"legacy:{entry}:{part}#1" for number, entry in enumerate(self.live) for part in range(2 - number % 2)]


@pytest.mark.proves("R8", "T16")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=[pytest.mark.crash, pytest.mark.slow])])
def test_R8_T16_killed_at_any_step_an_import_is_finished_by_the_next_run(
    hand: Hand, outbox: Outbox, outbox_url: str, tmp_path: Path, stride: int
):
    """Every entry comes over whole and once, every file is at every moment in one place, and nothing stale is sent."""
    wanted: list[str] = []
    for step in range(stride, MOST_STEPS, stride):
        queue = LegacyQueue(tmp_path / f"killed-at-{step}")
        expected = Expected(queue)
        was_killed = killed_at(hand, step, outbox_url, queue)
        assert queue.is_intact()
        import_directory(outbox, queue.path)
        again = import_directory(outbox, queue.path)
        assert (again.messages, again.already_imported, again.already_sent) == (0, 0, 0), "the second run finds nothing to do"
        assert queue.left() == {left.name for left in again.refused} == expected.refused
        assert queue.is_intact()
        expected.check(outbox)
        wanted += expected.deliveries
        if not was_killed:
            break
    else:
        pytest.fail("the import never came to its end")
    assert step > 20, "the steps of three batches"
    sent = Sent()
    outbox.register(FunctionChannel("telegram", sent))
    outbox.drain(timeout_s=300)
    assert Counter(sent.keys) == Counter(wanted)


@pytest.mark.proves("R8", "T19")
@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_R8_T19_ten_thousand_files_killed_half_way_and_imported_twice_more_are_each_sent_once(
    sqlite_outbox: Outbox, sqlite_outbox_url: str, queue: LegacyQueue
):
    expected = Expected(queue, size=1_430)
    assert len(queue.written) > 10_000
    program = [sys.executable, "-c", "from outbox.cli import main; main()"]
    command = [*program, "--database", sqlite_outbox_url, "import-legacy", str(queue.path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as importing:
        while not queue.archive.exists() or len(queue.archived()) < 4_000:
            assert importing.poll() is None, "it ended before it was killed"
            time.sleep(0.01)
        importing.kill()
    assert queue.is_intact()
    assert 0 < len(sqlite_outbox.list(limit=20_000)) < len(expected.live) * 1.5 + len(expected.expired) + len(expected.dead)
    for _ in range(2):
        summary = subprocess.run([*command, "--json"], cwd=ROOT, check=False, capture_output=True, text=True)
        assert summary.returncode == 1
    again = json.loads(summary.stdout)
    assert (again["imported"], again["messages"], len(again["refused"])) == (0, 0, len(expected.refused))
    assert queue.left() == expected.refused
    assert queue.is_intact()
    sent = Sent()
    sqlite_outbox.register(FunctionChannel("telegram", sent))
    sqlite_outbox.drain(timeout_s=600)
    assert Counter(sent.keys) == Counter(expected.deliveries)
    in_one_chat = [key for key in expected.deliveries if key.split(":")[1] in set(expected.live[::2])]
    assert [key for key in sent.keys if key in set(in_one_chat)] == in_one_chat
    by_status = {status: count for channel in sqlite_outbox.stats() for status, count in channel.by_status.items()}
    assert by_status == {
        Status.DELIVERED: len(expected.deliveries),
        Status.EXPIRED: len(expected.expired),
        Status.FAILED_TERMINAL: len(expected.dead),
    }
