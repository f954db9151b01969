"""One import under way: files in order, in batches; each batch is committed, read back, and only then archived.

A crash at any point leaves files for the next run: of a file without a receipt nothing is in the database, and for one with a
receipt only the move to the archive is missing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from outbox.errors import OutboxError
from outbox.legacy.agenda import Agenda
from outbox.legacy.archive import Archive, NotArchived, digest_of
from outbox.legacy.directory import Alien, Found, Place, QueueDirectory
from outbox.legacy.entry import Entry, EntryRefused, identify, parse
from outbox.legacy.mapping import Mapper, Moment
from outbox.legacy.rehearsal import Destination
from outbox.legacy.summary import Fate, OnProgress, Phase, Progress, Tally
from outbox.store.records import ImportedEntry, ImportReceipt

MOST_FILES = 200
"""Files in a batch."""
MOST_BYTES = 8 * 1024 * 1024
"""Bytes in a batch, those of a reply counted once for each of its parts; a single file may exceed it."""


class ImportAborted(OutboxError):
    """What was committed cannot be read back: the database is not where it was, or somebody deletes from it."""


@dataclass(frozen=True, slots=True)
class _Source:
    """A file that was read, with its entry unless it is only the mark of a sent one."""

    found: Found
    id: str
    digest: str
    modified_ms: int
    weight: int
    entry: Entry | None


class Run:
    """An import from ``queue`` into ``destination``; without an ``archive`` the files stay where they are."""

    def __init__(
        self, queue: QueueDirectory, agenda: Agenda, destination: Destination, mapper: Mapper, archive: Archive | None,
        on_progress: OnProgress | None,
    ) -> None:  # fmt: skip
        self.tally = Tally()
        self._queue = queue
        self._agenda = agenda
        self._destination = destination
        self._mapper = mapper
        self._archive = archive
        self._on_progress = on_progress
        self._done = 0

    def plan(self, *, with_dead: bool, without: Path) -> None:
        """Put each file in its place on the agenda. Pending entries are read for their time: a conversation keeps its order."""
        now_ms = self._destination.now_ms()
        for number, item in enumerate(self._queue.scan(with_dead=with_dead, without=without), 1):
            if isinstance(item, Alien):
                (self.tally.refuse if item.is_suspect else self.tally.ignore)(item.name, item.reason)
            elif item.place is not Place.PENDING:
                self._agenda.add(item, 0)
            elif (source := self._read(item)) is not None and source.entry is not None:
                self._agenda.add(item, Moment(now_ms, source.modified_ms).of_enqueue(source.entry))
            self._report(Phase.READING, number, None)

    def carry_out(self) -> None:
        """Import what is on the agenda."""
        total = len(self._agenda)
        for batch in self._batches():
            self._import(batch)
            self._report(Phase.IMPORTING, self._done, total)

    def _report(self, phase: Phase, done: int, total: int | None) -> None:
        if self._on_progress is not None:
            self._on_progress(Progress(phase, done, total))

    def _batches(self) -> Iterator[Sequence[_Source]]:
        batch: dict[str, _Source] = {}
        weight = 0
        for found in self._agenda:
            source = self._read(found)
            if source is not None:
                if source.id in batch or len(batch) == MOST_FILES or (batch and weight + source.weight > MOST_BYTES):
                    yield list(batch.values())
                    batch, weight = {}, 0
                batch[source.id] = source
                weight += source.weight
            self._done += 1
        if batch:
            yield list(batch.values())

    def _read(self, found: Found) -> _Source | None:
        """The file, or ``None`` where it is refused, which is noted."""
        try:
            source_id = identify(found.stem)
            content = self._queue.read(found)
            entry = None if found.place is Place.SENT else parse(content.data, found.stem)
        except EntryRefused as error:
            self.tally.refuse(found.name, error)
            return None
        weight = len(content.data) * (1 if entry is None else len(entry.parts))
        return _Source(found, source_id, digest_of(content.data), content.modified_ms, weight, entry)

    def _import(self, batch: Sequence[_Source]) -> None:
        known = self._destination.receipts([source.id for source in batch])
        now_ms = self._destination.now_ms()
        new = []
        for source in batch:
            receipt = known.get(source.id)
            if receipt is not None:
                self._recognise(source, receipt)
                continue
            try:
                new.append((source, self._mapped(source, now_ms)))
            except EntryRefused as error:
                self.tally.refuse(source.found.name, error)
        if new:
            self._commit(new)

    def _mapped(self, source: _Source, now_ms: int) -> ImportedEntry:
        if source.entry is None or self._queue.was_sent(source.found.stem):
            return ImportedEntry(source.id, source.digest, Fate.SENT)
        moment = Moment(now_ms, source.modified_ms)
        return self._mapper.map(source.entry, source.found.place, moment, source.digest)

    def _commit(self, new: Sequence[tuple[_Source, ImportedEntry]]) -> None:
        entries = [entry for _, entry in new]
        written = self._destination.import_entries(entries)
        standing = self._destination.read_back(entries)
        if lost := written - standing:
            raise ImportAborted(f"{len(lost)} entries were committed and cannot be read back; their files stay where they are")
        others = self._destination.receipts([entry.source_id for entry in entries if entry.source_id not in standing])
        for source, entry in new:
            if entry.source_id in standing:
                self.tally.messages += len(entry.messages)
                self._finish(source, Fate(entry.outcome))
            elif entry.source_id in others:  # another import was faster
                self._recognise(source, others[entry.source_id])
            else:
                self.tally.refuse(source.found.name, "there is a message with its idempotency key, and no receipt for it")

    def _recognise(self, source: _Source, receipt: ImportReceipt) -> None:
        """A file whose entry has a receipt: done with, or in conflict with what was imported, and then left where it is."""
        if receipt.outcome == Fate.SENT:
            self._finish(source, Fate.SENT)
        elif source.entry is None:
            reason = f"it was imported (message {receipt.message_id}), and the old gateway has sent it since: stop the gateway"
            self.tally.refuse(source.found.name, reason)
        elif receipt.digest == source.digest:
            self._finish(source, Fate.KNOWN)
        else:
            reason = f"an entry of this id with other content was imported before (message {receipt.message_id})"
            self.tally.refuse(source.found.name, reason)

    def _finish(self, source: _Source, fate: Fate) -> None:
        self.tally.fates[fate] += 1
        if self._archive is None:
            return
        try:
            self._archive.put(self._queue.path_of(source.found), source.found.name, source.digest)
        except NotArchived as error:
            self.tally.keep(source.found.name, error)
