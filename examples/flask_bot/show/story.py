"""The story: people talk, processes are killed, everybody waits until all is quiet, and the audit is held."""

import secrets
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from examples.flask_bot.bot import Line
from examples.flask_bot.show.audit import Account, Evidence, Findings, Reply, audit
from examples.flask_bot.show.corpus import Conversation, conversations
from examples.flask_bot.show.people import People
from examples.flask_bot.show.screen import Screen
from examples.flask_bot.show.stack import Stack
from examples.flask_bot.show.trouble import Kill, Victim, kill
from outbox.errors import MessageNotFound

LOOK_S = 0.05


@dataclass(frozen=True)
class Plot:
    """What is to happen: who talks, and what is killed when equal parts of the answers have arrived.

    When nothing arrives for ``patience_s`` seconds, what has not arrived counts as lost. Longer than any lease and any
    dispatch horizon, it only ends a story that would have no end.
    """

    talks: Sequence[Conversation] = field(default_factory=conversations)
    victims: Sequence[Victim] = (Victim.PROCESS,)
    patience_s: float = 120.0


def tell(plot: Plot, stack: Stack, screen: Screen) -> Findings:
    """Run it all."""
    talks = _of_this_run(plot.talks)
    people = People(stack.bot_url, talks)
    screen.say(f"{len(talks)} people say {people.lines} things to the bot", style="bold")
    people.talk()
    try:
        kills = _watch(plot, stack, people, screen)
    finally:
        people.hush()
    return audit(_evidence(stack, people, {talk.name for talk in talks}, kills))


def _of_this_run(talks: Sequence[Conversation]) -> list[Conversation]:
    """Under names of their own, since a database may hold the conversations of earlier runs."""
    run = secrets.token_hex(2)
    return [replace(talk, name=f"{talk.name}-{run}") for talk in talks]


def _watch(plot: Plot, stack: Stack, people: People, screen: Screen) -> list[Kill]:
    """Kill in time; return when everything has been said, has arrived and is settled, or when nothing moves any more."""
    kills: list[Kill] = []
    step = people.lines // (len(plot.victims) + 2)
    planned = deque((step * place, victim) for place, victim in enumerate(plot.victims, start=1))
    moved_at, before = time.monotonic(), (-1, -1)
    with screen.progress(people.lines) as bars:
        while time.monotonic() - moved_at < plot.patience_s:
            now = committed, delivered = len(people.committed_at), stack.ledger.accepted()
            bars.update(committed, delivered, stack.outbox.stats())
            if planned and delivered >= planned[0][0] and (killed := kill(planned[0][1], stack.outbox, stack.node_pids())):
                planned.popleft()
                kills.append(killed)
                screen.say(str(killed), style="bold yellow")
            if people.silent and delivered >= committed and _all_settled(stack, people):
                break
            if now != before:
                moved_at, before = time.monotonic(), now
            time.sleep(LOOK_S)
    for _, victim in planned:
        screen.say(f"no {victim} was killed: none could be caught in the middle of a send", style="bold yellow")
    return kills


def _all_settled(stack: Stack, people: People) -> bool:
    """Whether the outbox knows by now of what has arrived."""
    return all(stack.outbox.get(message_id).status == "delivered" for message_id in people.committed_at)


def _evidence(stack: Stack, people: People, names: set[str], kills: Sequence[Kill]) -> Evidence:
    engine = create_engine(stack.settings.database_url)
    with Session(engine) as session:
        lines = session.scalars(select(Line).where(Line.conversation.in_(names))).all()
    engine.dispose()
    return Evidence(
        committed={line.message_id: Reply(line.conversation, line.number, line.reply) for line in lines},
        committed_at=people.committed_at,
        rolled_back=people.rolled_back,
        ledger=stack.ledger.entries(),
        accounts={line.message_id: _account(stack, line.message_id) for line in lines},
        kills=[killed.at for killed in kills],
    )


def _account(stack: Stack, message_id: str) -> Account:
    try:
        message = stack.outbox.get(message_id)
    except MessageNotFound:
        return Account("not kept", 0, ())
    tried_again = stack.outbox.attempts(message_id) if message.attempt_count > 1 else ()
    unknown = [attempt.error or "" for attempt in tried_again if attempt.error_class == "unknown"]
    return Account(message.status, message.attempt_count, unknown)
