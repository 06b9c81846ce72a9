"""An output folder appears whole or not at all: failures, kills, full disks and rivals."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mindfl.data import make_synthetic, open_dataset
from mindfl.data.folder import filled_folder
from mindfl.errors import DataError, OptionError, StorageError

STAGING, MOVING = ".mindfl-staging-x", ".mindfl-moving-x"
FORMATS = ["bin", "compact"]


def files(folder: Path) -> list[str]:
    """Names in ``folder``, sorted; empty where it is missing."""
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_content_appears_with_ordinary_permissions(tmp_path: Path) -> None:
    target = tmp_path / "deep er" / "öut"
    with filled_folder(target) as folder:
        (folder / "a").write_text("1")
        (folder / "b").mkdir()
        assert files(target) == [folder.name]
    (tmp_path / "plain").mkdir()
    assert files(target) == ["a", "b"] and target.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("existing", [True, False])
def test_an_error_leaves_things_as_they_were(error: type[BaseException], existing: bool, tmp_path: Path) -> None:
    target = tmp_path / "new" / "out"
    if existing:
        target.mkdir(parents=True)
    with pytest.raises(error), filled_folder(target) as folder:
        (folder / "a").write_text("1")
        raise error
    assert files(target) == [] and (tmp_path / "new").exists() == existing


def test_what_is_there_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for output, cause in ((tmp_path, "not empty"), (tmp_path / "mine.txt", "is a file")):
        with pytest.raises(OptionError, match=cause), filled_folder(output):
            pytest.fail("the work began before the refusal")
    assert files(tmp_path) == ["mine.txt"] and (tmp_path / "mine.txt").read_text() == "mine"


def test_the_slower_of_two_writers_gives_way(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="not empty"), filled_folder(tmp_path) as slow:
        (slow / "who").write_text("slow")
        with filled_folder(tmp_path) as fast:
            (fast / "who").write_text("fast")
    assert files(tmp_path) == ["who"] and (tmp_path / "who").read_text() == "fast"


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    (tmp_path / STAGING / "half").mkdir(parents=True)
    with filled_folder(tmp_path) as folder:
        (folder / "a").touch()
    assert files(tmp_path) == ["a"]


def test_a_living_rivals_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / STAGING).mkdir()
    rival = os.open(tmp_path / STAGING, os.O_RDONLY)
    fcntl.flock(rival, fcntl.LOCK_EX)
    with filled_folder(tmp_path) as folder:
        (folder / "a").touch()
    os.close(rival)
    assert files(tmp_path) == [STAGING, "a"]


def test_a_cut_move_is_refused_by_readers_and_completed_by_the_next_run(tmp_path: Path, synthetic: Path) -> None:
    (tmp_path / MOVING).mkdir()
    for number, path in enumerate(sorted(synthetic.iterdir())):
        (tmp_path / (MOVING if number else "") / path.name).write_bytes(path.read_bytes())
    with pytest.raises(DataError, match="not complete"):
        open_dataset(tmp_path)
    with pytest.raises(OptionError, match="not empty"), filled_folder(tmp_path):
        pass
    assert open_dataset(tmp_path).users == open_dataset(synthetic).users


@pytest.mark.parametrize("format", FORMATS)
def test_a_killed_conversion_can_be_run_again(format: str, tmp_path: Path) -> None:
    """The child kills itself in the midst of writing; nothing looks like a data set, and a rerun succeeds."""
    script = (
        "import os, sys, mindfl.data.synthetic as s; draw = s.draw_writer;"
        "s.draw_writer = lambda seed, number: draw(seed, number) if number < 2 else os.kill(os.getpid(), 9);"
        "s.make_synthetic(sys.argv[1], users=3, format=sys.argv[2], progress=False)"
    )
    target = tmp_path / "out"
    child = subprocess.run([sys.executable, "-c", script, target, format], check=False)
    assert child.returncode == -signal.SIGKILL and len(files(target)) == 1
    with pytest.raises(DataError):
        open_dataset(target)
    make_synthetic(target, users=3, format=format, progress=False)
    assert len(open_dataset(target)) == 3 and not any(name.startswith(".") for name in files(target))


@pytest.mark.parametrize("format", FORMATS)
def test_a_full_disk_is_one_line_and_leaves_nothing(format: str, tmp_path: Path) -> None:
    """A limit on file size makes the operating system refuse to write, as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
        with pytest.raises(StorageError, match=r"cannot write .*out"):
            make_synthetic(tmp_path / "out", users=3, format=format, progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="create folder"):
        make_synthetic(tmp_path / "file" / "out", users=1, progress=False)
    with pytest.raises(StorageError):
        make_synthetic(tmp_path / ("n" * 300), users=1, progress=False)
    assert files(tmp_path) == ["file"]


def test_two_processes_at_once_leave_one_whole_data_set(tmp_path: Path) -> None:
    script = "import sys; from mindfl.data import make_synthetic as m; m(sys.argv[1], users=6, progress=False)"
    target = tmp_path / "out"
    children = [subprocess.Popen([sys.executable, "-c", script, target], stderr=subprocess.PIPE) for _ in range(2)]
    errors = [child.communicate()[1].decode() for child in children]
    assert 0 in [child.returncode for child in children]
    assert all("OptionError" in error for child, error in zip(children, errors, strict=True) if child.returncode)
    assert files(target) == ["images.u8", "index.json", "labels.u8"] and len(open_dataset(target)) == 6
