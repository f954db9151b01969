"""``python -m examples.flask_bot``: the bot and everything around it, with trouble on the way and an audit at the end."""

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from shutil import rmtree

from examples.flask_bot.show.corpus import conversations
from examples.flask_bot.show.screen import Screen
from examples.flask_bot.show.stack import Stack, running, settings_for
from examples.flask_bot.show.story import Plot, tell
from examples.flask_bot.show.trouble import Victim
from outbox.errors import OutboxError
from workers.dashboard import address
from workers.password import flower_password

DESCRIPTION = """\
People talk to a chat bot over HTTP. The bot stores what they say, what it answers and the message that carries the answer
in one transaction; some of its requests fail afterwards. The outbox delivers the answers through two Celery worker nodes to
a receiver that refuses some and ignores others, while worker processes are killed. At the end everything is compared."""

EPILOG = """\
Without --exit it stays up until Ctrl-C, so that you can look around. Exit status: 0 when nothing was lost, nothing that was
rolled back was sent, every conversation kept its order and every duplicate is explained; 1 when not; 2 for wrong options."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; the exit status."""
    options = _parser().parse_args(arguments)
    screen = Screen()
    data_dir = options.data_dir or Path(tempfile.mkdtemp(prefix="flask-bot-"))
    status = 1
    try:
        status = _run(screen, data_dir, options)
    except OutboxError as error:
        screen.say(f"flask_bot: {error}", style="bold red")
    except KeyboardInterrupt:
        screen.say("interrupted before the end", style="bold red")
        status = 130
    if options.data_dir is None and status != 1:
        rmtree(data_dir, ignore_errors=True)
    else:
        screen.say(f"database, ledger and logs are kept in {data_dir}")
    return status


def _run(screen: Screen, data_dir: Path, options: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    plot = Plot(
        talks=conversations()[: options.conversations],
        victims=[Victim(victim) for victim in options.kill],
        patience_s=options.patience,
    )
    with running(settings_for(data_dir, options.database), screen) as stack:
        findings = tell(plot, stack, screen)
        screen.show(findings)
        if not options.exit:
            _stay_up(screen, stack)
    return 1 if findings.problems else 0


def _stay_up(screen: Screen, stack: Stack) -> None:
    settings = stack.settings
    screen.say(f"The outbox's dashboard: {address(settings)}", style="")
    user, password = settings.flower_user, flower_password(settings)
    screen.say(
        f"Flower, the workers' dashboard: http://127.0.0.1:{settings.flower_port} (user {user}, password {password})", style=""
    )
    screen.say(f"The metrics, for Prometheus: http://127.0.0.1:{settings.metrics_port}/metrics", style="")
    screen.say(f'The bot: curl {stack.bot_url}/conversations/me --json \'{{"text": "I am curious."}}\'', style="")
    screen.say(f"The outbox: OUTBOX_DATABASE_URL={settings.database_url} .venv/bin/outbox status", style="")
    screen.say(f"The receiver's ledger: {settings.data_dir / 'receiver.db'}", style="")
    screen.say(f"The logs: {settings.data_dir / 'log'}", style="")
    screen.say("Ctrl-C ends it.", style="bold")
    try:
        signal.pause()
    except KeyboardInterrupt:
        screen.say("stopping")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.flask_bot",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--exit", action="store_true", help="end after the audit instead of staying up")
    parser.add_argument(
        "--kill", nargs="*", choices=[str(victim) for victim in Victim], default=[str(Victim.PROCESS)], metavar="WHAT",
        help="what to kill on the way: process (a pool process) or node (a whole worker node; its messages come back a minute"
        " later); may be named several times, or not at all (default: process)",
    )  # fmt: skip
    parser.add_argument("--conversations", type=int, metavar="N", help="let only the first N people talk (default: all)")
    parser.add_argument(
        "--patience", type=float, default=Plot.patience_s, metavar="S",
        help="seconds without any arrival after which what is missing counts as lost (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument("--database", metavar="URL", help="a PostgreSQL or SQLite URL (default: a new SQLite file)")
    parser.add_argument(
        "--data-dir",
        type=lambda text: Path(text).absolute(),
        metavar="DIR",
        help="where to keep everything (default: a directory for this run)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
