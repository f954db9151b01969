"""L without the nudge: whoever loses it, or has no broker at hand, waits for beat's next tick."""

from collections.abc import Iterator

from benchmarks.lab import Lab
from benchmarks.measuring import Figures, Target, in_turns, percentile
from benchmarks.rows import latency
from benchmarks.rows.stacks import running_bare, running_ours

TICK_MS = 1_000.0
ALLOWED = 5.0
"""As with the nudge: so many times the bare p99."""


def by_beat_alone(lab: Lab) -> Iterator[Figures]:
    """L.beat: p99 from commit to send where beat alone wakes the relay, against one tick and five bare p99s."""
    messages = lab.sized(240, 60)
    with running_bare(lab) as alone, running_ours(lab, "sqlite") as stack:
        stack.outbox.on_commit = None
        publish, commit = latency.publishing(alone), latency.committing(stack)
        contenders = {
            "theirs": lambda: percentile(latency.delays_ms(lab, alone.redis, messages, publish), 99),
            "ours": lambda: percentile(latency.delays_ms(lab, stack.redis, messages, commit), 99),
        }
        p99s = in_turns(lab.rounds, contenders, lab.told)
    allowed = [TICK_MS + ALLOWED * p99 for p99 in p99s["theirs"]]
    what = "p99 from commit to the start of the send without the nudge, against one tick of beat and five bare p99s"
    yield Figures("L.beat", what, "ms", p99s["ours"], allowed, Target(at_most=1))
