"""Writes `explanation/state-machine.md` from the transition table: run it after a change of `outbox/lifecycle.py`."""

from pathlib import Path

from outbox.lifecycle import ACTIVE, TERMINAL, TRANSITIONS, Event, Status

PAGE = Path(__file__).parent / "explanation" / "state-machine.md"

_HEAD = """\
# The state machine

A committed message is in exactly one of these statuses at every moment. This page is written by `docs/state_machine.py`
from the one transition table that the library's SQL is derived from, `outbox/lifecycle.py`; a test keeps them alike.
"""

_RULES = """\
- **Active** statuses hold back later messages of the same ordering key. **Terminal** ones never do.
- A terminal row changes only by an operator's explicit action, which is recorded, or by the success of the attempt that still
  holds the row's lease: evidence that a message was sent is never thrown away.
- `parked` is not terminal: it waits for an operator, or for the proof that it was sent. It is never pruned and never expires.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([_HEAD, diagram(), "", "## Statuses", "", _RULES, _table(), "", "## Changes", "", _changes(), ""])


def diagram() -> str:
    """The table as a Mermaid state diagram. Changes between the same two statuses share an arrow."""
    arrows: dict[tuple[Status, Status], list[str]] = {}
    for event, transition in TRANSITIONS.items():
        if event is Event.DELIVER_LATE:
            continue  # from everywhere: an arrow from each would hide all others
        for source in sorted(transition.sources):
            arrows.setdefault((source, transition.target or source), []).append(event)
    lines = [f"    {source} --> {target}: {' / '.join(events)}" for (source, target), events in arrows.items()]
    ends = [f"    {status} --> [*]" for status in sorted(TERMINAL)]
    return "\n".join(["```mermaid", "stateDiagram-v2", f"    [*] --> {Status.QUEUED}: enqueue", *lines, *ends, "```"])


def _table() -> str:
    rows = [f"| `{status}` | {'active' if status in ACTIVE else 'terminal'} |" for status in Status]
    return "\n".join(["| status | kind |", "|---|---|", *rows])


def _changes() -> str:
    rows = [
        f"| {event} | {_names(transition.sources)} | {f'`{transition.target}`' if transition.target else 'unchanged'} "
        f"| {transition.meaning} |"
        for event, transition in TRANSITIONS.items()
    ]
    return "\n".join(["| event | from | to | meaning |", "|---|---|---|---|", *rows])


def _names(statuses: frozenset[Status]) -> str:
    return ", ".join(f"`{status}`" for status in Status if status in statuses)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
