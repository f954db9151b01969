"""Writes the figures of `benchmarks.md`, and its charts, from `benchmarks/results/latest.json`: run it after `make bench`."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks import sizing
from docs import benchmark_charts
from docs.benchmark_charts import Results, Row, by_nodes, named, rows_of

HERE = Path(__file__).parent
RESULTS = HERE.parent / "benchmarks" / "results" / "latest.json"
PAGE = HERE / "benchmarks.md"
IMAGES = HERE / "images"

ELSEWHERE = "†"

LIMITS = {
    "X": (
        "on SQLite its one writer. Claims, takes and settles hold the write lock for 77 % of the time, 150 µs a message: three"
        " updates, which take SQLite 35 µs where nothing else runs, 14 µs of flushes, and what Python computes around them, on"
        " two cores that two pool processes share with Redis and the worker's main process. Of what a pool process computed, a"
        " sampling profiler found 31 % in takes and settles, 28 % in sends, half of it the adapter's own INCR, 14 % in the"
        " delivery loop, 11 % in claiming and publishing and 4 % in maintenance. No function took more than 4 % by itself."
    ),
    "X.batch1": (
        "a task for each message costs what a bare task costs, and two transactions. Of what a pool process computed, the"
        " profiler found 31 % in the take, 23 % in the settle, the flushes of both among them, 21 % in publishing tasks"
        " for the others, and most of the rest in Celery around a task. The main process needs half as long again for"
        " each, here as there. A larger `batch_size` is the cure; the default is 100."
    ),
    "E.p50": (
        "of the time of an `enqueue`, 40 % is SQLite's insert and SQLAlchemy around it, which stays so that its events,"
        " its echo and whoever listens see the statement, 20 % is making a checked row, the payload's way into JSON among"
        " it, and 8 % joining the transaction and hearing of its commit."
    ),
    "E.bulk": (
        "of the time of a row in `enqueue_many`, 40 % is what the other side does, the driver's `executemany` of ready"
        " values, and 17 % that the statement works out the times itself, as it must where the database's clock counts."
        " 29 % is making a checked row, a third of it the payload's way into JSON that keeps types."
    ),
    "L": (
        "both count from where the application's data are safe: a bare application begins to publish then, and in ours the"
        " thread that publishes wakes up. On top of a bare task's way through broker and worker come three short"
        " transactions, which take nearly half of the time by themselves: a look for what is due and what is paused, the"
        " claim and the take, the last two each with a flush."
    ),
    "W": (
        "the receiver takes a good part of one of the two cores on both sides. Of what a worker's process computed, the"
        " profiler found 24 % in the HTTP client's request and 10 % in its sockets, which is what the bare loop does, 17 %"
        " around it (signature, guard, timeout, reading the answer), 22 % in takes and settles, and most of the rest in a"
        " task of asyncio for each send, which the bare loop has once for all."
    ),
    "B": "",
    "key": (
        "one process relays, sends and settles both. Of one key a claim dispatches what one task carries, 100, and marks what"
        " else it has met of it as waiting, so there are five claims for one of 500 unordered messages; each take looks row"
        " by row whether anything of the key stands between, and on PostgreSQL it asks for a lock on the key, in two"
        " statements more."
    ),
    "memory": "",
    "idle": (
        "of what a worker takes above a bare one, a third goes to its main process, which looks twice a second whether"
        " a pool process has died between two tasks, and two thirds to the pool: the relay's one statement each second,"
        " and maintenance every five."
    ),
    "scale": (
        "all nodes, the database and the broker share two cores. With one node they compute for 0.7 of a second in each"
        " second, with two for 1.1, with four for 1.8, 1.1 of it in the nodes and 0.5 in PostgreSQL: with"
        " `concurrency=1` each message is a transaction of its own. Nodes on hosts of their own would be held back by"
        " the database alone."
    ),
    "contention": (
        "nobody holds SQLite's lock for longer than a claim of 500 rows takes, and whoever waits is next when it is"
        " his turn. But four web processes that commit fifty times a second each hold it for three quarters of the time by"
        " themselves, 3.7 ms each time, of which 1.5 are computing, and the rest is the flush and waiting for one of two"
        " cores that seven processes share. Without the queue, on engines of their own as SQLAlchemy sets them up, it was"
        " 836 ms in an earlier run."
    ),
    "isolation": (
        "a message that fails costs what one that is delivered does not: a line in the table of attempts, and two statements"
        " more in each settle. Of 600 messages the sixth latest is the p99, and rounds of one side differ by more than the two"
        " sides do."
    ),
    "cost": "",
    "peer.pgqueuer": (
        "its two workers are nothing but an event loop each (uvloop, asyncpg): jobs come from one statement, run as"
        " coroutines, and are deleted by id from a buffer that is written when it is full or every tenth of a second."
        " There is no broker, no pool between processes, no fence at the start and none at the end of a send."
    ),
}
"""By the figure's id, or the beginning of it: what the profile shows to bound it. What is empty is not in the page."""

SCALING = sizing.Work(send_s=0.02, batch_size=10, concurrency=1)
"""How the rows `scale.*` send."""
PLANNED = (100, 1_000, 5_000, 20_000, 100_000)


def page(text: str, results: Results) -> str:
    """``text`` with everything between its marks written anew."""
    pictures = benchmark_charts.drawn(results)
    sections = {
        "run": _run(results),
        "targets": _targets(rows_of(results, peers=False)),
        "peers": _shown(pictures, "peers") + _peers(rows_of(results, peers=True), results["peers"]),
        "fairness": _fairness(results["peers"]),
        "limits": _limits(),
        "sizing": _sizing(results),
        "scaling": _shown(pictures, "scale") + _scaling(results),
    }
    for name, section in sections.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}{section}{end}{rest.partition(end)[2]}"
    return text


def _shown(pictures: Mapping[str, str], what: str) -> str:
    return "".join(f"![Messages a second](images/{name})\n\n" for name in pictures if what in name)


def _run(results: Results) -> str:
    versions = results["versions"]
    rounds = f"the medians of {results['rounds']} rounds that take turns"
    text = (
        f"Measured on {results['measured_at'][:10]}: {rounds}, on {_described(results['machine'])}, Celery"
        f" {versions['celery']}, SQLAlchemy {versions['sqlalchemy']}, psycopg {versions['psycopg']}.\n"
    )
    for machine in sorted({_described(row["machine"]) for row in results["rows"] if "machine" in row}):
        text += f"Rows with {ELSEWHERE} were measured before, on {machine}.\n"
    if results["quick"]:
        text += (
            "\n!!! warning\n    This was a quick look on a busy machine: it shows the form of the tables, and proves nothing.\n"
        )
    return text


def _described(machine: Row) -> str:
    return (
        f"{machine['cpus']} cores of {machine['processor']}, {machine['memory_gb']:.0f} GB, {machine['system']}"
        f" {machine['kernel']}, Python {machine['python']}"
    )


def _targets(rows: Sequence[Row]) -> str:
    lines = [
        (f"`{row['id']}`", row["what"], _figure(row, "ours"), _figure(row, "theirs"), _ratio(row), _wanted(row)) for row in rows
    ]
    return _table(("", "measured", "ours", "the other", "ratio", "wanted"), lines)


def _peers(rows: Sequence[Row], peers: Mapping[str, Row]) -> str:
    def line(row: Row) -> tuple[str, ...]:
        _, name, kind = row["id"].split(".")
        theirs = "did not run" if row["error"] else _figure(row, "theirs")
        promise = peers[name]["guarantee"]
        return (
            f"{name} {peers[name]['version']}",
            named(kind),
            theirs,
            _figure(row, "ours"),
            _ratio(row),
            _wanted(row),
            promise,
        )

    return _table(("", "on", "theirs", "ours", "ratio", "wanted", "what it promises"), [line(row) for row in rows])


def _fairness(peers: Mapping[str, Row]) -> str:
    return "".join(f"- **{name}** {peer['version']}: {peer['settings']}.\n" for name, peer in peers.items())


def _limits() -> str:
    found = [f"- `{name}`: {text}\n" for name, text in LIMITS.items() if text]
    return "".join(["## What limits each figure\n\n", *found, "\n"]) if found else ""


def _sizing(results: Results) -> str:
    try:
        costs = sizing.measured(results)
    except KeyError:  # not all of the benchmarks were run
        return ""
    work = sizing.Work(send_s=0.05)
    return _table(sizing.HEADINGS, [sizing.cells(sizing.plan(rate, costs, work)) for rate in PLANNED])


def _scaling(results: Results) -> str:
    nodes = by_nodes(results)
    try:
        costs = sizing.measured(results)
    except KeyError:
        return ""
    cores = results["machine"]["cpus"]
    lines = [
        (str(count), f"{sizing.scaled(count, costs, SCALING, shared_cores=cores):,.0f}/s", f"{rate:,.0f}/s")
        for count, rate in nodes.items()
    ]
    return _table(("nodes", "the model says", "measured"), lines)


def _figure(row: Row, side: str) -> str:
    if row[side] is None:
        return "–"
    unit = row["unit"] if row["unit"].startswith("/") else f" {row['unit']}".rstrip()
    spread = row["spread"][side]
    return f"{_rounded(row[side])}{unit}" + (f" ±{spread / 2:.0%}" if spread else "")


def _ratio(row: Row) -> str:
    return "" if row["ratio"] is None else f"{row['ratio']:.2f}×" + (f" {ELSEWHERE}" if "machine" in row else "")


def _wanted(row: Row) -> str:
    if row["met"] is None:
        return row["target"] or ""
    return f"{row['target']} {'✓' if row['met'] else '✗'}"


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    if not lines:
        return ""
    return "".join(_lines([headings, ["---"] * len(headings), *lines]))


def _lines(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for row in rows:
        yield f"| {' | '.join(row)} |\n"


def write() -> None:
    """Write the page and its charts."""
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")
    for name, drawn in benchmark_charts.drawn(results).items():
        (IMAGES / name).write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    write()
