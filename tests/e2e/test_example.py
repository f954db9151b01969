"""The example as a newcomer runs it: one command, real processes, a table at its end."""

import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa

from tests.servers.kept import free_port
from tests.servers.supervised import is_running, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("example")]

PATIENCE_S = 540
SHORT = ("--conversations", "8")
"""Eight people say 86 things."""


class Run:
    """``python -m examples.flask_bot`` as a process, with what it printed."""

    def __init__(self, data_dir: Path, *options: str) -> None:
        data_dir.mkdir()
        self.data_dir = data_dir
        self._output = data_dir / "output"
        ports = {name: str(free_port()) for name in ("flower_port", "dashboard_port", "metrics_port")}
        command = ["examples.flask_bot", "--data-dir", str(data_dir), *options]
        with self._output.open("w") as output:
            self.process = start(command, ports, cwd=data_dir, stdout=output)

    @property
    def text(self) -> str:
        return self._output.read_text()

    def ends(self) -> int:
        try:
            return self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(self.text) from None

    def says(self, pattern: str) -> "re.Match[str]":
        """Wait for a line."""
        deadline = time.monotonic() + PATIENCE_S
        while (found := re.search(pattern, self.text)) is None:
            assert self.process.poll() is None, self.text
            assert time.monotonic() < deadline, self.text
            time.sleep(0.1)
        return found

    def table(self) -> dict[str, str]:
        rows = re.findall(r"^│ (\S[^│]*?) +│ +(\S[^│]*?) │", self.text, re.MULTILINE)
        return dict(rows)

    def family(self) -> list[psutil.Process]:
        itself = psutil.Process(self.process.pid)
        return [itself, *itself.children(recursive=True)]


@pytest.fixture
def example(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Starts runs that are gone when the test ends."""
    runs: list[Run] = []

    def run(*options: str) -> Run:
        runs.append(Run(tmp_path / f"run-{len(runs)}", *options))
        return runs[-1]

    yield run
    for one in runs:
        one.process.kill()
        one.process.wait()


def test_what_is_committed_arrives_once_and_in_order_although_a_worker_is_killed(example: Callable[..., Run]) -> None:
    run = example("--exit")

    assert run.ends() == 0, run.text
    table = run.table()
    assert table["committed"] == table["delivered"]
    assert int(table["committed"]) >= 500
    assert (int(table["rolled back"]), int(table["lost"])) == (54, 0)
    assert int(table["retried"]) >= 30
    assert "SIGKILL to a pool process" in run.text
    assert "nothing that was rolled back did" in run.text


@pytest.mark.long
@pytest.mark.postgres
def test_on_postgresql_it_stays_up_until_ctrl_c_leaves_nothing_behind_and_finds_what_vanished_from_the_next_run(
    example: Callable[..., Run], postgres_url: str
) -> None:
    on_postgresql = (*SHORT, "--database", postgres_url)
    run = example(*on_postgresql)

    flower = run.says(r"Flower.*: (http://\S+) \(user (\S+), password (\S+)\)")
    dashboard = run.says(r"The outbox's dashboard: (http://\S+)")
    bot = run.says(r"The bot: curl (\S+/conversations/)")
    run.says("Ctrl-C ends it")
    family = run.family()
    answer = urllib.request.Request(bot[1] + "me", b'{"text": "I am curious."}', {"content-type": "application/json"})
    with urllib.request.urlopen(answer, timeout=30) as response:
        assert response.status == 201
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(flower[1], timeout=30)
    with urllib.request.urlopen(dashboard[1], timeout=30) as response:
        assert b"delivered" in response.read()
    run.process.send_signal(signal.SIGINT)

    assert run.ends() == 0, run.text
    assert [process for process in family if is_running(process)] == []
    assert "Traceback" not in run.text

    lose_one(postgres_url)
    again = example("--exit", *on_postgresql, "--patience", "10")

    assert again.ends() == 1
    assert (again.table()["committed"], again.table()["lost"]) == ("86", "1")
    assert re.search(r"lost: \S+ was committed and never arrived", again.text)


def lose_one(url: str) -> None:
    """Let one message vanish, of those that come from now, as soon as anybody touches it."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        seq = connection.scalar(sa.text("select max(seq) from message_outbox"))
        for statement in (
            "create table lost (it boolean primary key)",
            "create function lose() returns trigger language plpgsql as 'begin"
            " insert into lost values (true) on conflict do nothing;"
            " if found then delete from message_outbox where seq = new.seq; end if; return null; end'",
            "create trigger lose_one after update on message_outbox for each row"
            f" when (new.seq > {seq}) execute function lose()",
        ):
            connection.execute(sa.text(statement))
    engine.dispose()


@pytest.mark.long
def test_interrupted_in_the_middle_it_stops_everything(example: Callable[..., Run]) -> None:
    run = example("--exit")
    run.says("people say")
    family = run.family()

    run.process.send_signal(signal.SIGTERM)

    assert run.ends() == 130, run.text
    assert [process for process in family if is_running(process)] == []
    assert "Traceback" not in run.text


@pytest.mark.crash
def test_what_a_dead_node_had_taken_comes_back_in_time(example: Callable[..., Run]) -> None:
    run = example("--exit", "--kill", "node", "process", "node")

    assert run.ends() == 0, run.text
    assert len(re.findall("SIGKILL to a whole worker node", run.text)) == 2
    assert run.table()["lost"] == "0"
