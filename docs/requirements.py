"""Writes `reference/requirements.md`: every requirement and trap with the tests that prove it. Run it after marking tests.

A test says what it proves with `@pytest.mark.proves("R1", "T19")`.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "requirements.md"

REQUIREMENTS = {
    "R1": "One durable row per logical message, committed before any I/O; a reply of several parts is several rows.",
    "R2": "Every option survives the round trip exactly, types included; what cannot is refused at enqueue.",
    "R3": "One status machine; terminal states change only by an operator's explicit action.",
    "R4": "A delivery is recorded and its row kept; acknowledging twice or an unknown id is a no-op; storage errors propagate.",
    "R5": "One failure path, whoever reports the failure.",
    "R6": "A TTL from the first due time, validated, exact to the millisecond, afresh at replay; nothing being sent expires.",
    "R7": "Terminal rows are pruned from the schedule after their retention, in bounded batches; others never.",
    "R8": "A legacy file queue is imported once, idempotent for ever by receipts that outlive the rows.",
    "R9": "Recovery is a continuous loop that survives a failing pass, stops at any moment, and sees changed configuration.",
    "R10": "No start-up cutoff by time: ownership is the lease.",
    "R11": "The dispatch kind is a column filtered in SQL; non-final rows are never sent again and always end terminal.",
    "R12": "The idempotency key is stable over all attempts, unique, and handed to the adapter with the attempt number.",
    "R13": "Every adapter has `send_final`; registering one without it fails at once; one with only it handles every payload.",
    "R14": "One message, one row, though dispatcher and delivery path both enqueue it.",
    "R15": "Partial success never sends again the part that was delivered.",
    "R16": "Counts by status, channel and turn, failures with their reason, and the status of a turn can be queried.",
    "R17": "A row in backoff never blocks a ready one of another key; oldest first, with a deterministic tie-break.",
    "R18": "A relay pass has a time budget; what is deferred is not charged.",
    "R19": "A corrupt row is set aside with its reason, and the others go on.",
    "R20": "Answers that only make sense inside a live interaction are refused at enqueue.",
    "R21": "Enqueue never fails silently: it raises in the caller's transaction.",
}

TRAPS = {
    "T1": "An acknowledgement swallowed a locked database, and the row was sent again each tick.",
    "T2": "Raising was not enough: the outcome must be remembered and settled again.",
    "T3": "After a proven send a later hook or acknowledgement turned it into a retry.",
    "T4": "An abort, a cancelling hook and an empty payload were recorded as delivered.",
    "T5": "Stale writers resurrected or overwrote terminal rows.",
    "T6": "A permanent error lost its text and class on one of two paths.",
    "T7": "Expiry overwrote the last error.",
    "T8": "A load error looked like an empty queue; one bad entry aborted the pass.",
    "T9": "A live send slower than a tick was sent a second time.",
    "T10": "A second process sent the first one's in-flight rows.",
    "T11": "A row whose outcome write was lost stayed stuck, unseen, until it expired.",
    "T12": "An attempt was counted only after failure, so a message that kills its worker looped for ever.",
    "T13": "A crash during the send was replayed blindly, or stranded for ever.",
    "T14": "Recovery before channels were connected burnt attempts or destroyed messages.",
    "T15": "stop() during start was a no-op; configuration was read once; a log line a second.",
    "T16": "An import hid errors, and the source file was deleted unverified.",
    "T17": "The database fell back to memory and the files were deleted.",
    "T18": "The import's idempotency ended when the row was pruned.",
    "T19": "Old files flooded people after a restart.",
    "T20": "Missing, NaN, negative and huge times and counts in files.",
    "T21": "Temporary files, delivered twins, `failed/`, directories, links, empty files and non-object JSON.",
    "T22": "Retry timing was lost in the import.",
    "T23": "The dispatch kind stood only inside the JSON: every row was loaded and filtered in memory.",
    "T24": "A column was added only where the table was created: existing databases broke silently.",
    "T25": "The obvious filter left non-final rows that failed after start stuck for ever.",
    "T26": "Backoff was off by one; two sources of truth for the due time.",
    "T27": "Pruning existed and was never called.",
    "T28": "The idempotency key existed and nothing filled it or passed it on.",
    "T29": "Dispatcher and delivery path both enqueued: two rows for every message.",
    "T30": "Best effort swallowed the error, and the message was recorded as delivered.",
    "T31": "A best-effort failure of one part was recorded as the delivery of all.",
    "T32": "A partial batch was replayed whole.",
    "T33": "Answers to an interaction, replayed by channel and target, landed in the wrong place.",
    "T34": "Hooks ran again on replay and decided differently: the stored payload is final.",
    "T35": "The caller was told to try again while a retry was scheduled.",
    "T36": "An adapter with only `send_final` counted as not configured, which was permanent.",
    "T37": "A media payload on a text-only adapter was a silent, acknowledged no-op.",
    "T38": "Reply-to: the part's own beats the inherited one, null suppresses it, success alone consumes it.",
    "T39": "No busy timeout; `synchronous=NORMAL` loses the last commits on power loss.",
    "T40": "No order within a conversation.",
    "T41": "After an outage, replays were not paced.",
    "T42": "Payloads were kept longer than needed.",
}


def proofs() -> dict[str, list[str]]:
    """The node ids of the tests that are marked to prove each requirement or trap."""
    found: dict[str, list[str]] = {name: [] for name in (*REQUIREMENTS, *TRAPS)}
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for function, names in _marked(tree.body):
            for name in names:
                found.setdefault(name, []).append(f"{file.relative_to(ROOT)}::{function}")
    return found


def page() -> str:
    """The whole page."""
    proven = proofs()
    head = (
        "# Requirements and traps, and their tests\n\n"
        "Written by `docs/requirements.py` from the marks on the tests; a test keeps them alike and finds what none proves.\n"
    )
    return "\n".join([head, _table("Requirement", REQUIREMENTS, proven), "", _table("Trap", TRAPS, proven), ""])


def _marked(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _marked(node.body, f"{prefix}{node.name}::")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names = [name for decorator in node.decorator_list for name in _proven_by(decorator)]
            if names:
                yield f"{prefix}{node.name}", names


def _proven_by(decorator: ast.expr) -> list[str]:
    if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.proves":
        return [str(argument.value) for argument in decorator.args if isinstance(argument, ast.Constant)]
    return []


def _table(title: str, statements: dict[str, str], proven: dict[str, list[str]]) -> str:
    rows = [f"| {title} | | Proven by |", "|---|---|---|"]
    for name, statement in statements.items():
        tests = "<br>".join(f"`{test}`" for test in proven[name])
        rows.append(f"| {name} | {statement} | {tests} |")
    return "\n".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
