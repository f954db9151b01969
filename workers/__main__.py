"""``python -m workers``: run the whole service on this machine until Ctrl-C or SIGTERM."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from config.settings import Pool, Settings, load_settings
from outbox.errors import OutboxError
from workers.dashboard import address
from workers.password import flower_password
from workers.supervisor import Supervisor

DESCRIPTION = """\
Run the whole service on this machine: broker, one worker node that relays, N that deliver, beat and Flower.
What dies is started again; Ctrl-C or SIGTERM ends it all, after the sends under way; a second one ends it at once."""

EPILOG = """\
Settings come from these options, then from OUTBOX_... environment variables, then from a .env file here
(.env.example lists them all). Channels come from channels.toml (channels.example.toml shows how)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until asked to stop; the exit status."""
    options = vars(_parser().parse_args(arguments))
    console = options.pop("console")
    try:
        settings = load_settings(**{name: value for name, value in options.items() if value is not None})
        return _run(Supervisor(settings, _say, log_to_files=not console), settings)
    except OutboxError as error:
        print(f"outbox: {error}", file=sys.stderr)
        return 1


def _run(supervisor: Supervisor, settings: Settings) -> int:
    requests = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # which nohup leaves to whoever is to outlive the terminal
        requests.append(signal.SIGHUP)
    for number in requests:
        signal.signal(number, lambda *_: supervisor.request_stop())
    with supervisor:
        if settings.flower:
            _say(
                f"Flower is at http://127.0.0.1:{settings.flower_port}"
                f" (user {settings.flower_user}, password {flower_password(settings)})"
            )
        if settings.dashboard:
            _say(f"the dashboard is at {address(settings)}")
        if settings.metrics:
            _say(f"metrics are at http://127.0.0.1:{settings.metrics_port}/metrics")
        _say("running; Ctrl-C stops it")
        supervisor.wait()
        _say(f"stopping; sends under way get {settings.shutdown_grace_s:g} s, Ctrl-C again ends them now")
    _say("stopped")
    return 0


def _say(line: str) -> None:
    try:
        print(f"outbox: {line}", flush=True)
    except OSError:  # whoever read it is gone; the service goes on
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m workers",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=None,
    )
    default = Settings.model_fields

    def option(flag: str, meaning: str, **how: Any) -> None:
        field = default[flag.removeprefix("--").replace("-", "_")]
        parser.add_argument(flag, help=f"{meaning} (default: {field.default})", **how)

    option("--nodes", "worker nodes that deliver", type=int, metavar="N")
    option("--concurrency", "delivery tasks that a node runs at once", type=int, metavar="N")
    option("--pool", "how a node runs them", choices=[str(pool) for pool in Pool])
    option("--shutdown-grace-s", "seconds that sends under way get when the service stops", type=float, metavar="S")
    option("--flower-port", "port of Flower, on the loopback interface", type=int, metavar="PORT")
    parser.add_argument("--no-flower", dest="flower", action="store_false", default=None, help="run without Flower")
    option("--metrics-port", "port of the metrics for Prometheus, on the loopback interface", type=int, metavar="PORT")
    parser.add_argument("--no-metrics", dest="metrics", action="store_false", default=None, help="run without metrics")
    option("--dashboard-port", "port of the dashboard", type=int, metavar="PORT")
    parser.add_argument(
        "--no-dashboard", dest="dashboard", action="store_false", default=None, help="run without the dashboard"
    )
    option("--data-dir", "directory of the default database, the embedded broker, schedule and logs", metavar="DIR")
    option("--log-level", "the least severe thing that is logged", metavar="LEVEL")
    parser.add_argument("--console", action="store_true", help="log to this terminal instead of files in DIR/log")
    return parser


if __name__ == "__main__":
    sys.exit(main())
