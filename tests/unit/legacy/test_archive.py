"""Moving files away: never lost, never overwritten, never trusted unseen."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from outbox.errors import ConfigurationError
from outbox.legacy.archive import Archive, NotArchived, digest_of

ELSEWHERE = Path("/dev/shm")
"""Another file system, where there is one."""

another_file_system = pytest.mark.skipif(
    not ELSEWHERE.is_dir() or ELSEWHERE.stat().st_dev == Path("/tmp").stat().st_dev,
    reason="there is but one file system",
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "entry.json"
    path.write_bytes(b"the entry")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    made = Archive(tmp_path / "deep" / "archive")
    made.prepare(tmp_path)
    return made


@pytest.fixture
def distant(tmp_path: Path) -> Iterator[Archive]:
    with tempfile.TemporaryDirectory(dir=ELSEWHERE) as place:
        made = Archive(Path(place))
        made.prepare(tmp_path)
        yield made


def files(archive: Archive) -> dict[str, bytes]:
    return {path.relative_to(archive.path).as_posix(): path.read_bytes() for path in archive.path.rglob("*") if path.is_file()}


def test_a_file_is_moved_byte_for_byte_with_its_time(source: Path, archive: Archive):
    archive.put(str(source), "failed/entry.json", digest_of(b"the entry"))
    assert not source.exists()
    assert files(archive) == {"failed/entry.json": b"the entry"}
    assert (archive.path / "failed/entry.json").stat().st_mtime == 1_700_000_000


@another_file_system
def test_a_file_is_moved_to_another_file_system_byte_for_byte_with_its_time(source: Path, distant: Archive):
    distant.put(str(source), "failed/entry.json", digest_of(b"the entry"))
    assert not source.exists()
    assert files(distant) == {"failed/entry.json": b"the entry"}
    assert (distant.path / "failed/entry.json").stat().st_mtime == 1_700_000_000


def test_another_file_of_that_name_is_never_overwritten(source: Path, archive: Archive):
    for content in (b"an older one", b"the entry", b"a third"):
        source.write_bytes(content)
        archive.put(str(source), "entry.json", digest_of(content))
    assert files(archive) == {"entry.json": b"an older one", "entry.json.1": b"the entry", "entry.json.2": b"a third"}


def test_a_link_in_its_place_is_neither_followed_nor_overwritten(source: Path, archive: Archive, tmp_path: Path):
    target = tmp_path / "precious"
    target.write_bytes(b"the entry")
    (archive.path / "entry.json").symlink_to(target)
    archive.put(str(source), "entry.json", digest_of(b"the entry"))
    assert (archive.path / "entry.json").readlink() == target
    assert (archive.path / "entry.json.1").read_bytes() == b"the entry"


def test_a_copy_that_a_crash_left_behind_is_finished_and_not_doubled(source: Path, archive: Archive):
    (archive.path / "entry.json").write_bytes(b"the entry")
    archive.put(str(source), "entry.json", digest_of(b"the entry"))
    assert not source.exists()
    assert files(archive) == {"entry.json": b"the entry"}


@another_file_system
def test_half_a_copy_that_a_crash_left_behind_is_no_copy(source: Path, distant: Archive):
    (distant.path / "entry.json.partial").write_bytes(b"the en")
    distant.put(str(source), "entry.json", digest_of(b"the entry"))
    assert files(distant) == {"entry.json": b"the entry"}


def test_T16_a_file_that_changed_since_it_was_read_stays_in_its_place(source: Path, archive: Archive):
    source.write_bytes(b"something newer")
    with pytest.raises(NotArchived, match="it changed during the import"):
        archive.put(str(source), "entry.json", digest_of(b"the entry"))
    assert source.read_bytes() == b"something newer"
    assert files(archive) == {}


@another_file_system
def test_T16_nor_is_it_moved_to_another_file_system(source: Path, distant: Archive):
    source.write_bytes(b"something newer")
    with pytest.raises(NotArchived, match="it changed during the import"):
        distant.put(str(source), "entry.json", digest_of(b"the entry"))
    assert source.read_bytes() == b"something newer"
    assert files(distant) == {}


def test_T16_a_changed_file_does_not_pass_for_one_that_was_archived_before(source: Path, archive: Archive):
    (archive.path / "entry.json").write_bytes(b"the entry")
    source.write_bytes(b"something newer")
    with pytest.raises(NotArchived, match="it changed during the import"):
        archive.put(str(source), "entry.json", digest_of(b"the entry"))
    assert source.read_bytes() == b"something newer"


def test_a_file_that_went_away_is_told(archive: Archive, tmp_path: Path):
    with pytest.raises(NotArchived, match="No such file or directory"):
        archive.put(str(tmp_path / "gone.json"), "gone.json", digest_of(b""))


def test_an_archive_that_cannot_be_made_is_refused_before_anything_is_imported(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigurationError, match=r"the archive .*file/archive cannot be made: Not a directory"):
        Archive(tmp_path / "file" / "archive").prepare(tmp_path)
