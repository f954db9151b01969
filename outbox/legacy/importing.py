"""``import_directory``: checks where from and where to, before anything is touched."""

import math
import os
from contextlib import ExitStack
from pathlib import Path

from outbox.errors import ConfigurationError
from outbox.legacy.agenda import Agenda
from outbox.legacy.archive import Archive
from outbox.legacy.directory import FAILED, QueueDirectory
from outbox.legacy.mapping import Mapper
from outbox.legacy.rehearsal import Rehearsal
from outbox.legacy.run import Run
from outbox.legacy.summary import OnProgress, Summary
from outbox.outbox import Outbox
from outbox.preparing import LONGEST_SCHEDULE_S

DEFAULT_ARCHIVE = "imported"
"""Below the queue's directory, so that moving a file there is one rename on one file system."""


def import_directory(
    outbox: Outbox,
    directory: str | os.PathLike[str],
    *,
    archive: str | os.PathLike[str] | None = None,
    ttl_s: float | None = None,
    include_failed: bool = True,
    dry_run: bool = False,
    on_progress: OnProgress | None = None,
) -> Summary:
    """Import a file-based delivery queue into ``outbox``, once for ever: what was imported before is only archived.

    Stop the old gateway first. Where the channels are registered, entries are checked against them and get their policy.

    :param directory: the queue's base directory, with its dead letters in ``failed/``.
    :param archive: where files go, byte for byte, once their messages are committed and read back; default: ``imported/``
        in the directory.
    :param ttl_s: entries older than this many seconds are kept as expired and not sent; default: the TTL of the channel,
        else 30 minutes.
    :param include_failed: import the dead letters too, to be looked at and replayed.
    :param dry_run: change nothing; the summary is what an import would come to.
    :param on_progress: called after each file that was read, and each batch that was imported.
    :raises outbox.errors.ConfigurationError: a directory or the TTL is wrong, or the database is in memory.
    :raises outbox.errors.SchemaError: the database has not this release's schema.
    :raises outbox.legacy.ImportAborted: what was committed cannot be read back.
    """
    if ttl_s is not None and not (math.isfinite(ttl_s) and 0 < ttl_s <= LONGEST_SCHEDULE_S):
        raise ConfigurationError(f"the TTL must be a number of seconds above 0, at most ten years, not {ttl_s!r}")
    queue = QueueDirectory(_resolved(directory))
    kept = Archive(_resolved(queue.path / DEFAULT_ARCHIVE if archive is None else archive))
    if kept.path in (queue.path, queue.path / FAILED):
        raise ConfigurationError("the archive must be another directory than the queue's own")
    outbox.check_schema()
    if not outbox.store.is_durable():
        raise ConfigurationError("the database is in memory: what is imported into it would be lost with this process")
    mapper = Mapper(outbox.preparer, None if ttl_s is None else round(ttl_s * 1000))
    with ExitStack() as closing:
        agenda = closing.enter_context(Agenda())
        if dry_run:
            run = Run(queue, agenda, closing.enter_context(Rehearsal(outbox.store)), mapper, None, on_progress)
        else:
            kept.prepare(queue.path)
            run = Run(queue, agenda, outbox.store, mapper, kept, on_progress)
        run.plan(with_dead=include_failed, without=kept.path)
        run.carry_out()
        return run.tally.summary(dry_run=dry_run)


def _resolved(path: str | os.PathLike[str]) -> Path:
    try:
        return Path(path).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigurationError(f"{os.fspath(path)!r} is no path: {error}") from error
