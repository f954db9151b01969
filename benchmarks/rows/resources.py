"""What the service takes from the machine: memory under a backlog, and processor time when there is nothing to do."""

import time
from collections.abc import Iterator

import psutil

from benchmarks.lab import Lab
from benchmarks.measuring import Figures, Target
from benchmarks.rows.stacks import running_idle_celery, running_ours

ALLOWED_GROWTH_MB = 30.0
FLAT = 1.02
"""So much may differ between two thirds of a run that is flat."""
ALLOWED_CPU_PERCENT = 1.0


def memory(lab: Lab) -> Iterator[Figures]:
    """memory, memory.flat: how much relay, beat and workers grow while they work off a long backlog, and whether they go on."""
    backlog, watched_s = lab.sized(1_000_000, 50_000), lab.sized(60, 10)
    with running_ours(lab, "sqlite") as stack:
        stack.load(200)
        stack.go()
        stack.await_done(200)
        idle = _resident_mb(lab)
        stack.load(backlog)
        stack.go()
        seen: list[float] = []
        until = time.monotonic() + watched_s
        while time.monotonic() < until:
            time.sleep(0.5)
            seen.append(_resident_mb(lab) - idle)
            lab.told()
    what = f"growth of relay, beat and workers while {backlog:,} rows wait, against what is allowed"
    third = len(seen) // 3
    note = f"idle {idle:.0f} MB; middle third {max(seen[third : 2 * third]):.1f}, last third {max(seen[2 * third :]):.1f} MB"
    yield Figures("memory", what, "MB", [max(seen)], [ALLOWED_GROWTH_MB], Target(at_most=1), note)
    middle, last = idle + max(seen[third : 2 * third]), idle + max(seen[2 * third :])
    what = "memory in the last third of that run, against the middle third"
    yield Figures("memory.flat", what, "MB", [last], [middle], Target(at_most=FLAT))


def idle(lab: Lab) -> Iterator[Figures]:
    """idle: processor time of beat and worker with nothing due, above a bare Celery whose beat ticks alike."""
    watched_s = lab.sized(20, 8)
    shares: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(lab.sized(min(lab.rounds, 3), 1)):
        for name, running in (("ours", running_ours(lab, "sqlite")), ("theirs", running_idle_celery(lab))):
            with running:
                time.sleep(3.0)  # starting is over
                before = _processor_s(lab)
                time.sleep(watched_s)
                shares[name].append((_processor_s(lab) - before) / watched_s * 100)
            lab.told()
    more = [ours - theirs for ours, theirs in zip(shares["ours"], shares["theirs"], strict=True)]
    note = f"ours {min(shares['ours']):.2f} %, bare {min(shares['theirs']):.2f} % of a core"
    what = "processor time with nothing due, above an idle Celery with the same beat"
    yield Figures("idle", what, "%", more, [ALLOWED_CPU_PERCENT], Target(at_most=1), note)


def _resident_mb(lab: Lab) -> float:
    """Private memory of every process of the stack: what forked children share with their parent counts once."""
    return sum(process.memory_full_info().uss for process in _processes(lab)) / 2**20


def _processor_s(lab: Lab) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in _processes(lab))


def _processes(lab: Lab) -> list[psutil.Process]:
    return [each for pid in lab.running for each in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))]
