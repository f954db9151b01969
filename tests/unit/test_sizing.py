"""The sizing model is arithmetic: what follows from costs and counts, and nothing else."""

import pytest
from click.testing import CliRunner

from benchmarks import sizing
from benchmarks.sizing import Costs, Work

COSTS = Costs(node_s=200e-6, database_s=100e-6)


def test_a_message_of_a_full_batch_shares_its_commits_with_all_others() -> None:
    look = sizing.COMMITS_A_LOOK / sizing.CLAIMED_AT_ONCE
    assert sizing.commits_a_message(Work(batch_size=1, concurrency=1)) == pytest.approx(2 + look)
    assert sizing.commits_a_message(Work(batch_size=100, concurrency=100)) == pytest.approx(0.02 + look)


def test_every_further_window_of_a_batch_costs_one_commit_more() -> None:
    look = sizing.COMMITS_A_LOOK / sizing.CLAIMED_AT_ONCE
    assert sizing.commits_a_message(Work(batch_size=10, concurrency=1)) == pytest.approx(1.1 + look)
    assert sizing.commits_a_message(Work(batch_size=10, concurrency=4)) == pytest.approx(0.4 + look)


def test_sends_that_take_no_time_are_bounded_by_the_processor() -> None:
    assert sizing.node_rate(COSTS, Work(cores=2)) == (pytest.approx(10_000), "processor")


def test_slow_sends_are_bounded_by_how_many_are_under_way() -> None:
    rate, limited_by = sizing.node_rate(COSTS, Work(send_s=0.9998, batch_size=100, concurrency=50, processes=2))
    assert (rate, limited_by) == (pytest.approx(100), "sends")


def test_a_task_never_has_more_sends_under_way_than_it_has_messages() -> None:
    few = Work(send_s=0.9998, batch_size=5, concurrency=50, processes=2)
    assert sizing.node_rate(COSTS, few) == (pytest.approx(10), "sends")


def test_a_plan_has_nodes_with_room_for_gusts_and_what_they_ask_of_database_and_broker() -> None:
    planned = sizing.plan(14_001, COSTS, Work(cores=2, batch_size=100, concurrency=100))
    assert planned.nodes == 3  # 7,000/s each, of the 10,000 that it can do
    assert planned.database_cores == pytest.approx(14_001 * 100e-6 / sizing.BUSY)
    assert planned.broker_messages == pytest.approx(140.01)
    assert planned.commits == pytest.approx(14_001 * (0.02 + sizing.COMMITS_A_LOOK / sizing.CLAIMED_AT_ONCE))
    assert planned.database_suffices


def test_a_plan_says_when_one_database_cannot_flush_so_often() -> None:
    one_by_one = Work(batch_size=1, concurrency=1)
    assert sizing.plan(500, COSTS, one_by_one).database_suffices
    assert not sizing.plan(1_500, COSTS, one_by_one).database_suffices


def test_nodes_on_one_machine_add_up_until_its_processors_are_used_up() -> None:
    work = Work(send_s=0.0198, batch_size=10, concurrency=1, processes=2)
    assert sizing.scaled(1, COSTS, work, shared_cores=2) == pytest.approx(100)
    assert sizing.scaled(4, COSTS, work, shared_cores=2) == pytest.approx(400)
    assert sizing.scaled(1_000, COSTS, work, shared_cores=2) == pytest.approx(2 / 300e-6)


def test_the_command_prints_a_line_for_each_rate(tmp_path_factory: pytest.TempPathFactory) -> None:
    results = tmp_path_factory.mktemp("results") / "latest.json"
    results.write_text('{"rows": [{"id": "cost.node", "ours": 200.0}, {"id": "cost.database", "ours": 100.0}]}')
    said = CliRunner().invoke(sizing.main, ["100", "20000", "--send-ms", "0", "--json", str(results)], env={"COLUMNS": "160"})
    assert said.exit_code == 0
    assert "10,000/s" in said.output
    assert [line.split()[1] for line in said.output.splitlines() if line.startswith("│")] == ["100", "20,000"]
