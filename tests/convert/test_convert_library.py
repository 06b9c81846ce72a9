from __future__ import annotations

import hashlib
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mindfl.convert import library
from mindfl.convert.library import fetch_library, find_library
from mindfl.errors import ConverterMissingError, FetchError, StorageError
from mindfl.files import file_digest

CONTENT = {name: f"content of {name}".encode() for name in library.MEMBERS}


class FakeIndex:
    """Stands in for pip and its index: writes a small wheel and counts the downloads."""

    def __init__(self) -> None:
        self.downloads = 0
        self.interrupt = False
        self.members = dict(CONTENT)

    def run_pip(self, folder: Path) -> None:
        self.downloads += 1
        if self.interrupt:
            (folder / "half").write_bytes(b"half")
            raise KeyboardInterrupt
        self.write_wheel(folder / library.WHEEL)

    def write_wheel(self, path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            # Under a ZipInfo of its own a file has a fixed date: each wheel is the same to the byte.
            for name, content in {**self.members, "not_needed.so": b"x" * 100}.items():
                archive.writestr(zipfile.ZipInfo(f"mindspore_lite/lib/{name}"), content)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINDFL_CACHE", str(tmp_path / "my cache"))
    monkeypatch.delenv("MINDFL_OFFLINE", raising=False)
    monkeypatch.delenv("MINDFL_CONVERTER_LIB", raising=False)
    return tmp_path / "my cache"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> FakeIndex:
    fake = FakeIndex()
    fake.write_wheel(tmp_path / "wheel")
    members = {
        name: library._Member(len(content), hashlib.sha256(content).hexdigest()) for name, content in CONTENT.items()
    }
    monkeypatch.setattr(library, "WHEEL_SHA256", hashlib.sha256((tmp_path / "wheel").read_bytes()).hexdigest())
    monkeypatch.setattr(library, "MEMBERS", members)
    monkeypatch.setattr(library, "_run_pip", fake.run_pip)
    return fake


def left_overs(cache: Path) -> list[str]:
    return sorted(file.name for file in (cache / "mindspore-lite-2.0.0").iterdir() if file.name not in ("lib", "lock"))


def test_fetch_keeps_the_needed_files_only(index: FakeIndex, cache: Path) -> None:
    assert find_library() is None
    folder = fetch_library()
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == CONTENT
    assert left_overs(cache) == []
    assert find_library() == folder == fetch_library()
    assert index.downloads == 1


def test_interrupted_fetch_leaves_no_broken_cache(index: FakeIndex, cache: Path) -> None:
    index.interrupt = True
    with pytest.raises(KeyboardInterrupt):
        fetch_library()
    assert find_library() is None
    assert left_overs(cache) == []
    (cache / "mindspore-lite-2.0.0" / "download-killed").mkdir()
    index.interrupt = False
    fetch_library()
    assert left_overs(cache) == []


def test_finished_download_is_not_repeated(index: FakeIndex, cache: Path) -> None:
    home = cache / "mindspore-lite-2.0.0"
    (home / "unpack-killed").mkdir(parents=True)
    index.write_wheel(home / library.WHEEL)
    fetch_library()
    assert index.downloads == 0
    assert left_overs(cache) == []


def test_broken_download_of_an_earlier_run_is_replaced(index: FakeIndex, cache: Path) -> None:
    home = cache / "mindspore-lite-2.0.0"
    home.mkdir(parents=True)
    (home / library.WHEEL).write_bytes(b"half a wheel")
    fetch_library()
    assert index.downloads == 1


def test_damaged_cache_is_fetched_again(index: FakeIndex, cache: Path) -> None:
    folder = fetch_library()
    (folder / "libmindspore_core.so").write_bytes(b"")
    assert find_library() is None
    assert fetch_library() == folder
    assert find_library() == folder
    assert index.downloads == 2


def test_wrong_checksum_is_refused(index: FakeIndex, cache: Path) -> None:
    index.members["libmindspore_core.so"] = b"something else"
    with pytest.raises(FetchError, match="sha256"):
        fetch_library()
    assert find_library() is None
    assert left_overs(cache) == []


def test_wrong_member_is_refused(index: FakeIndex, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    name = "libmindspore_core.so"
    monkeypatch.setitem(library.MEMBERS, name, library._Member(len(CONTENT[name]), "0" * 64))
    with pytest.raises(FetchError, match=r"libmindspore_core\.so in .* is damaged"):
        fetch_library()
    assert find_library() is None


def test_two_at_once_download_once(index: FakeIndex) -> None:
    barrier, found = threading.Barrier(4), []

    def fetch() -> None:
        barrier.wait()
        found.append(fetch_library())

    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert index.downloads == 1


def test_offline_refuses(index: FakeIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINDFL_OFFLINE", "1")
    with pytest.raises(FetchError, match="MINDFL_OFFLINE"):
        fetch_library()
    monkeypatch.setenv("MINDFL_OFFLINE", "0")
    assert fetch_library() == find_library()


def test_named_folder(index: FakeIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "lib"
    folder.mkdir()
    monkeypatch.setenv("MINDFL_CONVERTER_LIB", str(folder))
    with pytest.raises(ConverterMissingError, match=r"lacks libmindspore_glog\.so\.0"):
        fetch_library()
    for name, content in CONTENT.items():
        (folder / name).write_bytes(content)
    assert fetch_library() == folder
    assert index.downloads == 0


def test_other_platforms_are_told(index: FakeIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library.platform, "machine", lambda: "aarch64")
    with pytest.raises(ConverterMissingError, match="Linux x86-64 only, this is linux aarch64"):
        fetch_library()


def test_cache_that_cannot_be_written(index: FakeIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MINDFL_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="cannot create folder"):
        fetch_library()


def test_pips_failure_is_one_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(FetchError, match=r"No matching distribution found for mindspore-lite==2\.0\.0") as caught:
        fetch_library()
    assert "\n" not in caught.value.line()
    assert left_overs(cache) == []


def test_python_without_pip_is_told(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec: Callable[..., object] = library.importlib.util.find_spec
    monkeypatch.setattr(library.importlib.util, "find_spec", lambda name: None if name == "pip" else find_spec(name))
    with pytest.raises(FetchError, match="has no pip"):
        fetch_library()


def test_real_library_is_what_was_pinned(converter_library: Path) -> None:
    for name, member in library.MEMBERS.items():
        file = converter_library / name
        assert (file.stat().st_size, file_digest(file)) == (member.size, member.sha256)
