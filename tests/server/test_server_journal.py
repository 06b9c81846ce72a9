"""The journal's files: recovery after a crash, and damage that is noticed."""

from __future__ import annotations

import errno
import os
import random
import shutil
import threading
from pathlib import Path

import pytest

from mindfl.errors import StorageError
from mindfl.server.journal import Journal
from mindfl.server.segment import HEADER_SIZE, Record
from mindfl.server.storage import StateFolder

JOB = bytes(range(16))


class Opened:
    """An open journal with the records it replayed; leaves the folder free again."""

    def __init__(self, path: Path, start: int = 0) -> None:
        self.records: list[tuple[int, bytes]] = []
        self.folder = StateFolder(path)
        try:
            self.folder.set_reserve(0)
            self.journal = Journal(self.folder, JOB, start, lambda *record: self.records.append(record))
        except BaseException:
            self.folder.close()
            raise

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.journal.close()
        self.folder.close()

    def add(self, payload: bytes, kind: int = 3) -> int:
        return self.journal.append(Record.of(kind, [payload]))

    def keep(self, payload: bytes) -> int:
        position = self.add(payload)
        future = self.journal.durable(position)
        assert future is not None
        future.result(60)
        return position


def journals(path: Path) -> list[Path]:
    return sorted(path.glob("journal-*"))


def payloads(path: Path, start: int = 0) -> list[bytes]:
    with Opened(path, start) as opened:
        return [payload for _, payload in opened.records]


def test_records_come_back_in_order_and_new_ones_follow(tmp_path: Path) -> None:
    path = tmp_path / "Zustand ü 状态 with spaces"
    with Opened(path) as opened:
        assert opened.records == []
        opened.journal.append(Record.of(0, [b"head", memoryview(b"tail"), b""]))
        opened.keep(b"")
        opened.add(b"x" * 100_000, 254)
    with Opened(path) as opened:
        assert opened.records == [(0, b"headtail"), (3, b""), (254, b"x" * 100_000)]
        opened.add(b"last")
    assert payloads(path)[-1] == b"last"


def test_more_parts_than_one_call_takes(tmp_path: Path) -> None:
    with Opened(tmp_path) as opened:
        opened.journal.append(Record.of(1, [b"%d," % number for number in range(5000)]))
    assert payloads(tmp_path) == [b"".join(b"%d," % number for number in range(5000))]


def test_files_before_a_snapshot_are_removed_and_not_missed(tmp_path: Path) -> None:
    with Opened(tmp_path) as opened:
        opened.keep(b"one")
        first = opened.journal.rotate()
        assert opened.journal.rotate() == first
        opened.keep(b"two")
        second = opened.journal.rotate()
        opened.keep(b"three")
        assert len(journals(tmp_path)) == 3
    assert payloads(tmp_path) == [b"one", b"two", b"three"]
    assert payloads(tmp_path, first) == [b"two", b"three"]
    with Opened(tmp_path, second) as opened:
        opened.journal.drop_before(second)
        assert len(journals(tmp_path)) == 1
    assert payloads(tmp_path, second) == [b"three"]
    with pytest.raises(StorageError, match=r"lacks what came before journal-"):
        Opened(tmp_path, first)


def test_an_empty_file_is_gone_on_with_and_not_begun_anew(tmp_path: Path) -> None:
    """A second file of the same name would be removed together with the first, and be the one that is written to."""
    with Opened(tmp_path) as opened:
        opened.keep(b"one")
        first = opened.journal.rotate()
        (_, file) = journals(tmp_path)
        header = file.read_bytes()
        assert opened.journal.rotate() == first
        assert file.read_bytes() == header
        opened.journal.drop_before(first)
        opened.keep(b"two")
    assert payloads(tmp_path, first) == [b"two"]


@pytest.mark.parametrize("at", range(HEADER_SIZE))
def test_a_changed_header_is_damage_at_the_beginning(at: int, tmp_path: Path) -> None:
    with Opened(tmp_path) as opened:
        opened.keep(b"one")
    (file,) = journals(tmp_path)
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)
    with pytest.raises(StorageError, match=rf"{file.name} is damaged at byte 0, "):
        Opened(tmp_path)


def test_a_missing_journal_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    with Opened(tmp_path) as opened:
        opened.keep(b"one")
        position = opened.journal.rotate()
    for file in journals(tmp_path):
        file.unlink()
    with pytest.raises(StorageError, match="is missing"):
        Opened(tmp_path, position)


def test_a_torn_end_is_cut_at_whatever_byte_it_was_torn(tmp_path: Path) -> None:
    with Opened(tmp_path / "whole") as opened:
        opened.keep(b"first record")
        opened.keep(b"second record")
        begin = opened.journal.position
        opened.add(b"the last one")
        (file,) = journals(tmp_path / "whole")
        content = file.read_bytes()
    begin += HEADER_SIZE
    assert content[begin:].endswith(b"the last one")
    for length in range(begin, len(content)):
        torn = tmp_path / "torn"
        torn.mkdir()
        (torn / file.name).write_bytes(content[:length])
        with Opened(torn) as opened:
            assert [payload for _, payload in opened.records] == [b"first record", b"second record"]
            assert opened.journal.cut == length - begin
            opened.keep(b"another")
        assert payloads(torn) == [b"first record", b"second record", b"another"]
        shutil.rmtree(torn)


def test_no_flipped_bit_goes_unnoticed_in_what_was_acknowledged(tmp_path: Path) -> None:
    with Opened(tmp_path / "whole") as opened:
        for payload in (b"first", b"second", b"third"):
            opened.keep(payload)
        end = opened.journal.position
    (file,) = journals(tmp_path / "whole")
    content = file.read_bytes()
    generator = random.Random(5)
    noticed = 0
    for at in range(len(content)):
        flipped = bytearray(content)
        flipped[at] ^= 1 << generator.randrange(8)
        broken = tmp_path / "broken"
        broken.mkdir()
        (broken / file.name).write_bytes(flipped)
        try:
            assert payloads(broken) == [b"first", b"second", b"third"]
        except StorageError as error:
            assert "is damaged at byte" in str(error) or "belongs to another job" in str(error)
            noticed += 1
        shutil.rmtree(broken)
    assert noticed >= end + HEADER_SIZE - 40  # the last note about safe records needs none


def test_zeros_after_the_end_are_cut(tmp_path: Path) -> None:
    with Opened(tmp_path) as opened:
        opened.keep(b"one")
    (file,) = journals(tmp_path)
    with file.open("ab") as stream:
        stream.write(bytes(10_000))
    with Opened(tmp_path) as opened:
        assert ([payload for _, payload in opened.records], opened.journal.cut) == ([b"one"], 10_000)


def test_pages_that_a_power_loss_wrote_out_of_order_are_a_torn_end(tmp_path: Path) -> None:
    """Nothing was flushed after the first record, so nothing after it was acknowledged."""
    with Opened(tmp_path / "whole") as opened:
        opened.keep(b"one")
        begin = opened.journal.position
        for payload in (b"two", b"three"):
            opened.add(payload)
        opened.journal.rotate()
        opened.add(b"four")
        shutil.copytree(tmp_path / "whole", tmp_path / "lost")
    file = journals(tmp_path / "lost")[0]
    content = bytearray(file.read_bytes())
    content[begin + HEADER_SIZE] ^= 1
    file.write_bytes(content)

    with Opened(tmp_path / "lost") as opened:
        assert [payload for _, payload in opened.records] == [b"one"]
        assert len(journals(tmp_path / "lost")) == 1
        opened.keep(b"five")
    assert payloads(tmp_path / "lost") == [b"one", b"five"]


def test_an_end_torn_off_an_earlier_file_takes_the_later_ones_along(tmp_path: Path) -> None:
    with Opened(tmp_path / "whole") as opened:
        opened.keep(b"one")
        begin = opened.journal.position
        opened.add(b"two")
        for payload in (b"three", b"four"):
            opened.journal.rotate()
            opened.add(payload)
        shutil.copytree(tmp_path / "whole", tmp_path / "lost")
    first, second, third = journals(tmp_path / "lost")
    os.truncate(first, begin + HEADER_SIZE + 1)
    lost = 1 + second.stat().st_size + third.stat().st_size

    with Opened(tmp_path / "lost") as opened:
        assert [payload for _, payload in opened.records] == [b"one"]
        assert opened.journal.cut == lost
        assert journals(tmp_path / "lost") == [first]


def test_a_note_about_an_earlier_flush_does_not_vouch_for_a_torn_record_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go = threading.Event(), threading.Event()

    def slow_flush(_: int) -> None:
        began.set()
        assert go.wait(60)

    with Opened(tmp_path / "whole") as opened:
        monkeypatch.setattr(os, "fdatasync", slow_flush)
        begin = opened.add(b"one")
        future = opened.journal.durable(begin)
        assert began.wait(60)
        opened.add(b"not flushed")
        go.set()
        assert future is not None
        future.result(60)
        shutil.copytree(tmp_path / "whole", tmp_path / "lost")
    (file,) = journals(tmp_path / "lost")
    content = bytearray(file.read_bytes())
    assert len(content) > HEADER_SIZE + begin + 60
    content[begin + HEADER_SIZE + 30] ^= 1
    file.write_bytes(content)

    assert payloads(tmp_path / "lost") == [b"one"]


def test_a_torn_end_that_cannot_be_cut_off_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with Opened(tmp_path) as opened:
        opened.add(b"one")
    (file,) = journals(tmp_path)
    file.write_bytes(file.read_bytes() + b"torn")
    monkeypatch.setattr(os, "truncate", fail)
    with pytest.raises(StorageError, match=rf"cannot cut off the torn end of {file}: Read-only file system"):
        Opened(tmp_path)


def test_damage_before_what_was_flushed_into_a_later_file_is_not_cut_off(tmp_path: Path) -> None:
    with Opened(tmp_path) as opened:
        opened.add(b"one")
        opened.journal.rotate()
        opened.keep(b"two")
    file = journals(tmp_path)[0]
    os.truncate(file, file.stat().st_size - 1)
    with pytest.raises(StorageError, match=r"journal-0000000000000000 is damaged at byte") as caught:
        Opened(tmp_path)
    assert "restore the state folder from a backup" in caught.value.hint


def test_an_upload_cannot_pass_for_a_record(tmp_path: Path) -> None:
    """Payloads that hold whole files of another journal do not confuse the search after a torn record."""
    with Opened(tmp_path / "other") as opened:
        opened.keep(b"decoy")
    (decoy,) = journals(tmp_path / "other")
    with Opened(tmp_path / "own") as opened:
        opened.keep(b"one")
        opened.add(decoy.read_bytes() * 3)
    (file,) = journals(tmp_path / "own")
    os.truncate(file, file.stat().st_size - 60)
    assert payloads(tmp_path / "own") == [b"one"]


def test_another_jobs_journal_is_refused(tmp_path: Path) -> None:
    with Opened(tmp_path) as opened:
        opened.keep(b"one")
    folder = StateFolder(tmp_path)
    with pytest.raises(StorageError, match="belongs to another job"):
        Journal(folder, bytes(16), 0, lambda *_: None)
    folder.close()


def test_one_flush_serves_all_who_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushes: list[int] = []
    began, go = threading.Event(), threading.Event()
    flush = os.fdatasync

    def slow_flush(file: int) -> None:
        flushes.append(file)
        began.set()
        assert go.wait(60)
        flush(file)

    with Opened(tmp_path) as opened:
        monkeypatch.setattr(os, "fdatasync", slow_flush)
        first = opened.journal.durable(opened.add(b"first"))
        assert began.wait(60)
        others = [opened.journal.durable(opened.add(b"%d" % number)) for number in range(50)]
        assert first is not None
        assert not first.done()
        assert others[0] is not None and others[0].cancel()
        go.set()
        for future in (first, *others[1:]):
            assert future is not None
            future.result(60)
        assert len(flushes) == 2
        assert opened.journal.durable(0) is None
    assert len(payloads(tmp_path)) == 51


def test_who_waits_for_what_is_flushed_does_not_wait_for_what_was_written_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go = threading.Semaphore(0), threading.Semaphore(0)
    flush = os.fdatasync

    def slow_flush(file: int) -> None:
        began.release()
        assert go.acquire(timeout=60)
        flush(file)

    with Opened(tmp_path) as opened:
        monkeypatch.setattr(os, "fdatasync", slow_flush)
        first = opened.journal.durable(opened.add(b"first"))
        assert began.acquire(timeout=60)
        second = opened.journal.durable(opened.add(b"second"))
        go.release()
        assert first is not None and second is not None
        assert began.acquire(timeout=60)
        try:
            assert first.done() and not second.done()
        finally:
            go.release(10)
        second.result(60)


def test_a_record_that_nobody_asked_for_is_not_called_durable(tmp_path: Path) -> None:
    with Opened(tmp_path) as opened:
        opened.keep(b"one")
        opened.add(b"two")
        later = opened.add(b"three")
        future = opened.journal.durable(later)
        assert future is not None
        future.result(60)


def test_what_a_killed_process_left_unflushed_is_flushed_when_it_is_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Opened(tmp_path / "whole") as opened:
        opened.add(b"one")
        opened.journal.rotate()
        opened.add(b"two")
        shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    flushed: set[str] = set()
    flush = os.fsync

    def noting_flush(file: int) -> None:
        flushed.add(Path(f"/proc/self/fd/{file}").readlink().name)
        flush(file)

    monkeypatch.setattr(os, "fsync", noting_flush)
    assert payloads(tmp_path / "killed") == [b"one", b"two"]
    assert flushed >= {file.name for file in journals(tmp_path / "killed")}


def test_a_disk_that_fails_to_flush_ends_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with Opened(tmp_path) as opened:
        opened.keep(b"one")
        monkeypatch.setattr(os, "fdatasync", fail)
        future = opened.journal.durable(opened.add(b"two"))
        assert future is not None
        with pytest.raises(StorageError, match="Input/output error"):
            future.result(60)
        with pytest.raises(StorageError, match="Input/output error"):
            opened.add(b"three")
        again = opened.journal.durable(opened.journal.position)
        assert again is not None
        assert isinstance(again.exception(60), StorageError)
    monkeypatch.undo()
    assert payloads(tmp_path)[0] == b"one"


def test_a_write_that_fails_half_way_leaves_no_trace_but_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write = os.pwritev
    calls = 0

    def full(file: int, buffers: list[memoryview], offset: int) -> int:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, [buffers[0][:10]], offset)

    with Opened(tmp_path) as opened:
        opened.keep(b"one")
        size = journals(tmp_path)[0].stat().st_size
        monkeypatch.setattr(os, "pwritev", full)
        with pytest.raises(StorageError, match=r"cannot write .*No space left on device"):
            opened.add(b"two")
        monkeypatch.setattr(os, "pwritev", write)
        assert journals(tmp_path)[0].stat().st_size == size
        assert caplog.messages[0].endswith("[E-STORAGE]: devices are refused until there is room")
        opened.keep(b"three")
        assert caplog.messages[1:] == [f"{tmp_path} can be written again, after 1 failure"]
    assert payloads(tmp_path) == [b"one", b"three"]


def test_a_closed_journal_takes_nothing(tmp_path: Path) -> None:
    with Opened(tmp_path) as opened:
        opened.keep(b"one")
    with pytest.raises(StorageError, match="is closed"):
        opened.add(b"two")


def test_a_folder_has_one_holder(tmp_path: Path) -> None:
    with Opened(tmp_path), pytest.raises(StorageError, match=rf"is in use by the process {os.getpid()}$"):
        StateFolder(tmp_path)
    assert payloads(tmp_path) == []


def test_half_written_files_of_a_killed_process_are_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".snapshot.abc.tmp").write_bytes(b"half")
    StateFolder(tmp_path).close()
    assert not (tmp_path / ".snapshot.abc.tmp").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"cannot create folder .*file"):
        StateFolder(tmp_path / "file" / "state")
