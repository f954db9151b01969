"""`python -m benchmarks`: measures, prints the table and writes `benchmarks/results/latest.json`."""

import logging
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import lab, report
from benchmarks.lab import Lab
from benchmarks.measuring import Figures
from benchmarks.rows import (
    claiming,
    costs,
    end_to_end,
    enqueueing,
    inline,
    isolation,
    latency,
    peers,
    requests,
    resources,
    scaling,
    ticking,
    webhooks,
)

RESULTS = Path(__file__).parent / "results" / "latest.json"

BENCHMARKS: dict[str, Callable[[Lab], Iterator[Figures]]] = {
    "X": end_to_end.against_bare_celery,
    "batch1": end_to_end.one_message_a_task,
    "E": enqueueing.in_a_request,
    "bulk": enqueueing.in_bulk,
    "broker": requests.without_the_broker,
    "L": latency.commit_to_send,
    "beat": ticking.by_beat_alone,
    "W": webhooks.against_the_bare_client,
    "B": inline.beside_a_million_rows,
    "claim": claiming.beside_a_million_rows,
    "key": inline.one_key,
    "memory": resources.memory,
    "idle": resources.idle,
    "scale": scaling.worker_nodes,
    "contention": scaling.writers_during_delivery,
    "cost": costs.of_a_message,
    "peers": peers.side_by_side,
    "isolation": isolation.beside_the_sick,
}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, type=click.Choice(list(BENCHMARKS)))
@click.option("--rounds", type=click.IntRange(1), help="Rounds of each measurement (default: 5; with --quick, 2).")
@click.option("--quick", is_flag=True, help="Fewer messages and rounds: a look, no evidence.")
@click.option("--keep", is_flag=True, help="Keep the file's other figures; those of another machine tell so.")
@click.option(
    "--json", "path", type=click.Path(path_type=Path), default=RESULTS, show_default=True, help="Where the figures go."
)
def main(names: Sequence[str], rounds: int | None, quick: bool, keep: bool, path: Path) -> None:
    """Measure celery-outbox beside bare Celery, bare clients, empty tables and its rivals, in one run on this machine.

    NAMES choose benchmarks; without any, all are run. Their servers are started on loopback ports and are gone afterwards.
    """
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # so that servers and workers end with it
    logging.getLogger("outbox").setLevel(logging.ERROR)  # a broker that is gone on purpose is no news
    console = Console() if Console().is_terminal else Console(width=160)
    rounds = rounds or (2 if quick else 5)
    try:
        kept = report.kept_rows(path, quick=quick, rounds=rounds) if keep else []
    except report.NotAlike as error:
        raise click.UsageError(str(error)) from None
    rows: list[Figures] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        chosen = names or list(BENCHMARKS)
        done = progress.add_task("benchmarks", total=len(chosen))
        for name in chosen:
            measuring = progress.add_task(f"  {name}", total=None)
            with lab.opened(rounds=rounds, quick=quick, told=lambda task=measuring: progress.advance(task)) as here:  # type: ignore[misc]
                rows += BENCHMARKS[name](here)
            report.write_json(path, rows, quick=quick, rounds=rounds, kept=kept)  # at once: what comes next may fail
            progress.remove_task(measuring)
            progress.advance(done)
    report.print_table(console, rows)
    console.print(f"Written to {path}.")


if __name__ == "__main__":
    main()
