"""The tutorial's image folders."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mindfl.data import convert_images, open_dataset
from mindfl.errors import DataError


def picture(path: Path, *, size: tuple[int, int] = (28, 28), mode: str = "L", value: int = 77) -> Path:
    """Write an even image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).convert(mode).save(path)
    return path


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Two users with two train images and one test image each."""
    for user in ("u2", "u10"):
        picture(tmp_path / "in" / user / "train" / "0" / "a.png", value=10)
        picture(tmp_path / "in" / user / "train" / "61" / "b.PNG", value=20)
        picture(tmp_path / "in" / user / "test" / "36" / "c.png", value=30)
    return tmp_path / "in"


def convert(folder: Path, **options: Any) -> Any:
    """Convert into the folder beside the input."""
    return convert_images(folder, folder.parent / "out", progress=False, **options)


@pytest.mark.parametrize("format", ["bin", "compact"])
def test_images_and_labels_are_taken_over(format: str, folders: Path) -> None:
    report = convert(folders, format=format)
    dataset = open_dataset(report.output)
    train, test = dataset.user("u2").train, dataset.user("u2").test
    assert dataset.users == ("u2", "u10") and dataset.source == "images" and report.problems == ()
    assert train.labels[:2].tolist() == [0, 61] and test.labels[:1].tolist() == [36]
    assert train.grey()[:, 5, 5].tolist() == [10, 20] and test.grey()[0, 31, 31] == 30


def test_bins_have_batches_of_the_size_asked_for(folders: Path) -> None:
    report = convert(folders, format="bin", batch_size=2)
    assert sorted(path.name for path in (report.output / "u2").glob("*label.bin")) == [
        "u2_bn_1_test_label.bin",
        "u2_bn_1_train_label.bin",
    ]
    assert (report.output / "u2" / "u2_bn_1_train_data.bin").stat().st_size == 2 * 32 * 32 * 3 * 4


def test_letters_name_classes_too(folders: Path) -> None:
    for name in ("z", "Z", "7"):
        picture(folders / "u2" / "train" / name / "x.png")
    convert(folders)
    labels = open_dataset(folders.parent / "out").user("u2").train.labels[:5]
    assert sorted(labels.tolist()) == [0, 7, 35, 61, 61]


def test_small_images_are_resized_and_large_ones_kept(folders: Path) -> None:
    rng = np.random.default_rng(1)
    grey = {size: rng.integers(0, 256, (size, size), np.uint8) for size in (28, 32)}
    for size, image in grey.items():
        Image.fromarray(image).save(folders / "u2" / "test" / "36" / f"d{size}.png")
    convert(folders, format="compact")
    resized = np.asarray(Image.fromarray(grey[28]).resize((32, 32), Image.Resampling.BILINEAR))
    test = open_dataset(folders.parent / "out").user("u2").test.grey()
    assert np.array_equal(test[1], resized) and np.array_equal(test[2], grey[32])


def test_jpeg_and_colour_become_grey(folders: Path) -> None:
    picture(folders / "u2" / "test" / "36" / "d.jpg", mode="RGB", value=90)
    convert(folders, format="compact")
    assert abs(int(open_dataset(folders.parent / "out").user("u2").test.grey()[1, 9, 9]) - 90) <= 1


@pytest.mark.parametrize("suffix", [".bmp", ".webp", ".tif", ".TIFF", ".gif", ".pgm"])
def test_other_forms_of_pictures_are_read(suffix: str, folders: Path) -> None:
    picture(folders / "u2" / "test" / "36" / f"d{suffix}", value=90)
    report = convert(folders, format="compact")
    assert report.problems == ()
    assert abs(int(open_dataset(report.output).user("u2").test.grey()[1, 9, 9]) - 90) <= 2


def test_a_picture_is_turned_as_its_exif_data_say(folders: Path) -> None:
    exif = Image.Exif()
    exif[274] = 3  # upside down
    grey = np.zeros((32, 32), np.uint8)
    grey[:16] = 255
    Image.fromarray(grey).save(folders / "u2" / "test" / "36" / "d.png", exif=exif)
    report = convert(folders, format="compact")
    assert np.array_equal(open_dataset(report.output).user("u2").test.grey()[1], grey[::-1])


STRAYS: dict[str, tuple[str, str]] = {
    "root": ("x.png", "x.png beside the users' folders in"),
    "user": ("u2/x.webp", "x.webp beside train and test in"),
    "part": ("u2/train/x.bmp", "x.bmp beside the label folders in"),
    "below": ("u2/train/0/more/x.png", "more in "),
    "text": ("u2/train/0/notes.txt", "notes.txt in "),
    "third part": ("u2/val/0/x.png", "val in "),
}


@pytest.mark.parametrize("kind", STRAYS)
def test_what_is_not_read_is_named_and_its_user_is_kept(kind: str, folders: Path) -> None:
    name, message = STRAYS[kind]
    picture(folders / "new.png").rename((folders / name).parent.mkdir(parents=True, exist_ok=True) or folders / name)
    report = convert(folders)
    assert report.users == 2
    (problem,) = report.problems
    assert problem.startswith(message)


def test_several_strays_are_one_problem(folders: Path) -> None:
    for number in range(12):
        picture(folders / "u2" / "train" / f"{number}.png")
    (problem,) = convert(folders).problems
    assert problem.startswith("0.png and 11 more beside the label folders in ")


def test_what_file_managers_leave_is_ignored(folders: Path) -> None:
    for name in (".DS_Store", "u2/train/0/Thumbs.db", "u2/train/0/desktop.ini", "u2/.hidden.png"):
        (folders / name).write_bytes(b"x")
    assert convert(folders).problems == ()


def frames(path: Path) -> None:
    """Write a picture that moves."""
    images = [Image.new("L", (28, 28), value) for value in (0, 90, 200)]
    images[0].save(path, save_all=True, append_images=images[1:])


BREAKAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "size": (lambda user: picture(user / "train/0/x.png", size=(30, 28)), "is 30x28"),
    "bytes": (lambda user: (user / "train/0/x.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish"), "x.png"),
    "empty": (lambda user: (user / "train/0/x.png").touch(), "not a readable image"),
    "cut": (lambda user: (user / "train/0/a.png").write_bytes((user / "train/0/a.png").read_bytes()[:45]), "a.png"),
    "folder": (lambda user: (user / "train/0/x.png").mkdir(), "x.png"),
    "label": (lambda user: picture(user / "train/62/x.png"), "is not named by a class: 0..61 or a letter"),
    "no train": (lambda user: shutil.rmtree(user / "train"), "has no folder"),
    "pipe": (lambda user: os.mkfifo(user / "train/0/x.png"), "x.png: it is not a regular file"),
    "loop": (lambda user: (user / "train/0/x.png").symlink_to("x.png"), "cannot read"),
    "gone": (lambda user: (user / "train/0/x.png").symlink_to("none.png"), "cannot read"),
    "frames": (lambda user: frames(user / "train/0/x.gif"), "x.gif has 3 frames, not one"),
    "empty folder": (lambda user: [path.unlink() for path in user.glob("train/*/*")], "has no images"),
    "no part": (lambda user: (user / "test").rename(user / "tset"), "has no folder"),
}


@pytest.mark.parametrize("kind", BREAKAGES)
def test_a_broken_user_is_named_and_the_others_are_kept(kind: str, folders: Path) -> None:
    damage, message = BREAKAGES[kind]
    damage(folders / "u2")
    report = convert(folders, format="bin")
    assert report.users == 1 and len(report.problems) == 1
    assert "user u2" in report.problems[0] and message in report.problems[0]
    assert open_dataset(report.output).users == ("u10",)


@pytest.mark.parametrize(
    "damage",
    [
        lambda user: (user / "test/36/c.png").unlink(),
        lambda user: shutil.rmtree(user / "test/36"),
        lambda user: shutil.rmtree(user / "test"),
    ],
    ids=["no image", "no class", "no folder"],
)
@pytest.mark.parametrize("format", ["bin", "compact"])
def test_a_user_without_test_images_is_kept(damage: Callable[[Path], object], format: str, folders: Path) -> None:
    damage(folders / "u2")
    report = convert(folders, format=format)
    assert (report.users, report.untested, report.problems) == (2, 1, ())
    user = open_dataset(report.output).user("u2")
    assert (user.train.size, user.test.size) == (2, 0)


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in" / "u" / "other").mkdir(parents=True)
    for folder in (tmp_path / "in", tmp_path / "missing"):
        with pytest.raises(DataError):
            convert(folder)
    assert not (tmp_path / "out").exists()
