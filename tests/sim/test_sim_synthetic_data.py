"""The synthetic data of a work folder: kept as they were drawn, drawn again where they are not."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from folder_contents import contents

from mindfl.data import open_dataset
from mindfl.sim.job_data import synthetic_data

Draw = Callable[..., list[str]]


@pytest.fixture(params=["compact", "bin"])
def drawn(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Draw]:
    """The data of two writers, and a function that asks for them again and returns the warnings."""
    folder = tmp_path / "data" / "synthetic"

    def draw() -> list[str]:
        warnings: list[str] = []
        synthetic_data(folder, 2, 788, request.param, warn=warnings.append, progress=False)
        return warnings

    assert draw() == []
    return folder, draw


def largest(folder: Path) -> Path:
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def change_in_place(folder: Path) -> None:
    """Change one pixel: size and time of the file stay."""
    path = largest(folder)
    times = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def cut(folder: Path) -> None:
    path = largest(folder)
    path.write_bytes(path.read_bytes()[:-5000])


def remove(folder: Path) -> None:
    largest(folder).unlink()


def add(folder: Path) -> None:
    (folder / "more").mkdir()
    (folder / "more" / "x.bin").write_bytes(b"x")


def test_unchanged_data_are_kept(drawn: tuple[Path, Draw]) -> None:
    folder, draw = drawn
    inode = largest(folder).stat().st_ino
    (folder / ".DS_Store").write_bytes(b"of a file manager")
    assert draw() == []
    assert largest(folder).stat().st_ino == inode


@pytest.mark.parametrize("damage", [change_in_place, cut, remove, add])
def test_changed_data_are_drawn_again_and_kept_aside(drawn: tuple[Path, Draw], damage: Callable[[Path], None]) -> None:
    folder, draw = drawn
    before = contents(folder)
    damage(folder)
    changed = contents(folder)
    (warning,) = draw()
    aside = folder.with_name("synthetic.changed1")
    assert warning.startswith(f"the synthetic data in {folder} are not as they were drawn") and str(aside) in warning
    assert contents(folder) == before and contents(aside) == changed
    assert draw() == []
    damage(folder)
    assert len(draw()) == 1
    assert folder.with_name("synthetic.changed2").is_dir() and len(open_dataset(folder)) == 2


@pytest.mark.parametrize("note", [None, "", "[]", '{"sha256": "of other data"}'])
def test_unchanged_data_without_their_checksum_are_accepted(drawn: tuple[Path, Draw], note: str | None) -> None:
    """As the first release left them."""
    folder, draw = drawn
    path = folder.with_name("synthetic.json")
    checksum = json.loads(path.read_text())
    if note is None:
        path.unlink()
    else:
        path.write_text(note)
    assert draw() == []
    assert json.loads(path.read_text()) == checksum
    assert [each.name for each in folder.parent.iterdir() if each.is_dir()] == ["synthetic"]


def test_a_job_warns_of_data_that_were_changed(make_job, tmp_path: Path) -> None:
    settings = {"train_dataset": None, "client_num": 2, "iterations": 1, "seed": 788}
    make_job(**settings).prepare_data()
    folder = tmp_path / "run" / "data" / "synthetic_2_seed788_compact"
    change_in_place(folder)
    with pytest.warns(UserWarning, match="are not as they were drawn"):
        assert make_job(**settings).prepare_data().synthetic
