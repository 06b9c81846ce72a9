"""Atomic writing and the cache folder."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mindfl.errors import MindflWarning, StorageError
from mindfl.files import _temporary_cache, atomic_path, cache_dir, make_dir, read_file, write_atomic


def test_writes_bytes_and_text_creating_folders(tmp_path: Path) -> None:
    path = tmp_path / "a b" / "手写" / "file"
    write_atomic(path, "naïve\n")
    assert read_file(path) == "naïve\n".encode()
    write_atomic(path, b"\0\xff")
    assert read_file(path) == b"\0\xff"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_content(tmp_path: Path, failure: type[BaseException]) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(failure), atomic_path(path) as temporary:
        temporary.write_text("half of the n")
        raise failure
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_an_os_error_on_the_way_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(StorageError, match=r"cannot write .*file: No space"), atomic_path(path):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "file", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_the_umask_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # It is the process's: another thread's file would get the permissions of the moment.
    monkeypatch.delattr(os, "umask")
    write_atomic(tmp_path / "file", "x")
    write_atomic(tmp_path / "private", "x", private=True)
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["x" * 255, "手" * 85])
def test_longest_names(tmp_path: Path, name: str) -> None:
    write_atomic(tmp_path / name, "x")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(StorageError, match=r"cannot write"):
        write_atomic(tmp_path / "file", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_file_in_the_way_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match=r"cannot create folder"):
        make_dir(tmp_path / "file" / "folder")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_regular_file_is_refused_without_waiting(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "x")
    with pytest.raises(StorageError, match=r"cannot read .*x: (it is not a regular file|Is a directory)"):
        read_file(tmp_path / "x")
    with pytest.raises(StorageError, match=r"/dev/zero: it is not a regular file"):
        read_file("/dev/zero")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot read .*missing: No such file") as caught:
        read_file(tmp_path / "missing")
    assert caught.value.hint == "check the path"


class TestCacheFolder:
    @pytest.fixture(autouse=True)
    def clean(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("MINDFL_CACHE", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)

    def test_order(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        assert cache_dir() == tmp_path / ".cache" / "mindfl"
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert cache_dir() == tmp_path / "xdg" / "mindfl"
        monkeypatch.setenv("MINDFL_CACHE", "~/mine")
        assert cache_dir() == tmp_path / "mine"

    def test_no_home(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MINDFL_CACHE", "~no-such-user/cache")
        with pytest.raises(StorageError, match=r"no home folder") as caught:
            cache_dir()
        assert "MINDFL_CACHE" in caught.value.hint

    @pytest.fixture
    def homeless(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
        """No home folder, and a folder of its own for temporary files."""

        def home() -> None:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", home)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        _temporary_cache.cache_clear()
        yield tmp_path
        _temporary_cache.cache_clear()

    def test_without_a_home_it_lies_among_the_temporary_files(self, homeless: Path) -> None:
        with pytest.warns(MindflWarning, match="no home folder") as warned:
            folders = {cache_dir(), cache_dir()}
        assert folders == {homeless / f"mindfl-{os.getuid()}"} and len(warned) == 1
        assert stat.S_IMODE(folders.pop().stat().st_mode) == 0o700

    def test_what_others_made_is_not_used(self, homeless: Path) -> None:
        (homeless / "elsewhere").mkdir()
        (homeless / f"mindfl-{os.getuid()}").symlink_to(homeless / "elsewhere")
        with pytest.raises(StorageError, match="another user") as caught:
            cache_dir()
        assert "MINDFL_CACHE" in caught.value.hint

    def test_a_home_in_which_no_cache_can_be_made(self, homeless: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (homeless / "file").write_text("in the way")
        monkeypatch.setenv("XDG_CACHE_HOME", str(homeless / "file" / "cache"))
        with pytest.warns(MindflWarning, match=r"file/cache/mindfl cannot be created"):
            assert cache_dir() == homeless / f"mindfl-{os.getuid()}"
