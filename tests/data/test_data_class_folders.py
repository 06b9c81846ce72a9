"""Folders of pictures named by class: with users and without, of any size and mode."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from mindfl.cli.data import data_command
from mindfl.data import Dataset, Report, convert_images, inspect_dataset, open_dataset
from mindfl.errors import DataError, MindflWarning, OptionError

COLOURS = {"bird": (250, 30, 30), "cat": (30, 250, 30), "Übung 2": (30, 30, 250)}


def draw(path: Path, colour: Any = (9, 90, 200), size: tuple[int, int] = (24, 16)) -> Path:
    """Write an even picture of ``size`` (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB" if isinstance(colour, tuple) else "L", size, colour).save(path)
    return path


def fill(folder: Path, count: int) -> None:
    """Write ``count`` pictures of each class, whose brightest channel says which they are."""
    for label, colour in COLOURS.items():
        for number in range(count):
            draw(folder / label / f"{number}.png", (*colour[:2], colour[2] - number))


def convert(folder: Path, **options: Any) -> tuple[Report, Dataset]:
    """Convert beside the folder, without a warning where nothing is left out."""
    output = folder.with_name("out")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = convert_images(folder, output, progress=False, **options)
    return report, open_dataset(output)


def pixels(dataset: Dataset, part: str = "train") -> dict[tuple[int, ...], int]:
    """Return the number of pictures of each colour, which must be even, of all users."""
    found: dict[tuple[int, ...], int] = {}
    for user in dataset:
        split = getattr(user, part)
        for picture, label in zip(split.pixels, split.labels, strict=True):
            assert (picture == picture[0, 0]).all()
            assert int(picture[0, 0].argmax()) == label
            found[tuple(picture[0, 0].tolist())] = found.get(tuple(picture[0, 0].tolist()), 0) + 1
    return found


def test_classes_without_users_are_divided(tmp_path: Path) -> None:
    fill(tmp_path / "in", 20)
    report, data = convert(tmp_path / "in", partition="classes:1", users=3, seed=4)
    assert (report.users, report.train_samples, report.test_samples, report.classes) == (3, 54, 6, 3)
    assert (report.format, report.untested, report.problems) == ("arrays", 0, ())
    assert (data.class_names, data.image_size, data.channels, data.source) == (tuple(COLOURS), (16, 24), 3, "images")
    assert [np.unique(user.train.labels).size for user in data] == [1, 1, 1]
    assert len(pixels(data) | pixels(data, "test")) == 60
    assert data.user(0).train.images().dtype == np.float32 and data.user(0).train.images().max() <= 1


def test_train_and_test_folders_stay_apart(tmp_path: Path) -> None:
    fill(tmp_path / "in/train", 6)
    fill(tmp_path / "in/test", 2)
    report, data = convert(tmp_path / "in", users=2)
    assert (report.train_samples, report.test_samples) == (18, 6)
    assert (len(pixels(data)), len(pixels(data, "test"))) == (18, 6)


def test_users_with_named_classes_are_split(tmp_path: Path) -> None:
    for user, count in (("u10", 10), ("u9", 1), ("ann é", 2)):
        fill(tmp_path / "in" / user, count)
    _, data = convert(tmp_path / "in")
    assert data.users == ("ann é", "u9", "u10")
    assert [(user.train.size, user.test.size) for user in data] == [(5, 1), (2, 1), (27, 3)]
    assert data.class_names == tuple(COLOURS)
    assert sum(pixels(data).values()) == 34


def test_users_with_train_and_test_of_named_classes(tmp_path: Path) -> None:
    fill(tmp_path / "in/a/train", 2)
    fill(tmp_path / "in/a/test", 1)
    fill(tmp_path / "in/b/train", 3)
    report, data = convert(tmp_path / "in")
    assert [(user.train.size, user.test.size) for user in data] == [(6, 3), (9, 0)] and report.untested == 1


def test_the_tutorials_folders_in_colour_become_arrays_where_it_is_said(tmp_path: Path) -> None:
    for part in ("train", "test"):
        draw(tmp_path / "in/u" / part / "7/a.png", size=(28, 28))
    with pytest.warns(MindflWarning, match="2 pictures in colour became grey; --format arrays keeps colours"):
        report = convert_images(tmp_path / "in", tmp_path / "bins", progress=False)
    assert report.format == "bin"
    _, data = convert(tmp_path / "in", format="arrays")
    assert (data.channels, data.class_names, data.image_size) == (3, ("7",), (28, 28))


def test_numbered_classes_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    for name in ("10", "9", "1"):
        draw(tmp_path / "in" / name / "a.png")
    assert convert(tmp_path / "in", users=1)[1].class_names == ("1", "9", "10")


@pytest.mark.parametrize(("resize", "size"), [(8, (8, 8)), ((8, 12), (8, 12)), ("8x12", (8, 12)), ("9", (9, 9))])
def test_pictures_are_resized(tmp_path: Path, resize: Any, size: tuple[int, int]) -> None:
    fill(tmp_path / "in", 2)
    draw(tmp_path / "in/cat/other.png", (1, 3, 2), (99, 7))
    assert convert(tmp_path / "in", users=1, resize=resize)[1].image_size == size


@pytest.mark.parametrize("resize", [0, "0x3", "28x", (1, 2, 3), (1, 2.5), "axb", 5000, True, -3])
def test_an_unusable_size_is_refused(tmp_path: Path, resize: Any) -> None:
    with pytest.raises(OptionError, match="resize must be a size such as 28 or 32x48"):
        convert_images(tmp_path, tmp_path / "out", resize=resize)


def test_a_picture_of_another_size_is_named_with_the_way_out(tmp_path: Path) -> None:
    fill(tmp_path / "in", 2)
    odd = draw(tmp_path / "in/cat/odd.png", (1, 3, 2), (25, 16))
    with pytest.raises(DataError) as refused:
        convert(tmp_path / "in")
    assert f"{odd} is 16 pixels high and 25 wide" in str(refused.value) and "--resize 16x24" in refused.value.hint
    assert not (tmp_path / "out").exists()


def test_grey_pictures_have_one_channel_and_three_beside_colours(tmp_path: Path) -> None:
    for number in range(4):
        draw(tmp_path / "in/a" / f"{number}.png", 40 + number)
        draw(tmp_path / "in/b" / f"{number}.png", (60, 60, 60))
    _, data = convert(tmp_path / "in", users=2)
    assert (data.channels, data.grey) == (1, True)
    draw(tmp_path / "in/b/c.png", (61, 60, 60))
    (tmp_path / "out").rename(tmp_path / "first")
    assert convert(tmp_path / "in", users=2)[1].channels == 3
    (tmp_path / "out").rename(tmp_path / "second")
    assert convert(tmp_path / "in", users=2, grey=True)[1].channels == 1


RED, RAMP = Image.new("RGB", (8, 6), (200, 0, 0)), np.arange(48, dtype=np.uint16).reshape(6, 8) * 1285


def sideways(path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # to be turned clockwise
    Image.fromarray(np.repeat(np.arange(6, dtype=np.uint8)[::-1], 8).reshape(6, 8)).save(path, exif=exif)


def paletted() -> Image.Image:
    image = Image.new("P", (8, 6), 1)
    image.putpalette([1, 2, 3, 200, 0, 0])
    return image


def see_through(path: Path) -> None:
    image = RED.convert("RGBA")
    image.putalpha(Image.fromarray(np.repeat(np.array([[0, 255]], np.uint8), 4, 1).repeat(6, 0)))
    image.save(path)


#: name -> file name, how it is written, and its first and last pixel as read
MODES: dict[str, tuple[str, Callable[[Path], object], Any, Any]] = {
    "1 bit": ("a.png", lambda path: Image.new("1", (8, 6), 1).save(path), 255, 255),
    "palette": ("a.gif", lambda path: RED.convert("P").save(path), None, None),
    "transparent": ("a.png", see_through, (255, 255, 255), (200, 0, 0)),
    "palette with transparency": (
        "a.png",
        lambda path: paletted().save(path, transparency=1),
        255,
        255,
    ),
    "16 bits with transparency": (
        "a.png",
        lambda path: Image.fromarray(RAMP).save(path, transparency=0),
        255,
        235,
    ),
    "16 bits": ("a.png", lambda path: Image.fromarray(RAMP).save(path), 0, 235),
    "print": ("a.jpg", lambda path: Image.new("CMYK", (8, 6), (0, 0, 0, 255)).save(path), 0, 0),
    "turned": ("a.png", sideways, 0, 5),
}


@pytest.mark.parametrize("kind", MODES)
def test_every_mode_is_read_as_8_bit_grey_or_colour(tmp_path: Path, kind: str) -> None:
    name, write, first, last = MODES[kind]
    (tmp_path / "in/x").mkdir(parents=True)
    write(tmp_path / "in/x" / name)
    _, data = convert(tmp_path / "in", users=1)
    picture = data.user(0).train.pixels[0]
    assert data.image_size == ((8, 6) if kind == "turned" else (6, 8))
    if kind == "palette":
        assert abs(picture[0, 0].astype(int) - (200, 0, 0)).max() <= 30
    else:
        assert picture[0, 0].tolist() == list(np.atleast_1d(first)) and picture[-1, -1].tolist() == list(
            np.atleast_1d(last)
        )


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def cut(path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (16, 24, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:300])


BROKEN: dict[str, Callable[[Path], object]] = {
    "x.png is a loop": loop,
    "x.jpg is cut": cut,
    "x.png is empty": Path.touch,
    "x.gif is rubbish": lambda path: path.write_bytes(b"GIF89a" + b"\xff" * 40),
    "x.tif is rubbish": lambda path: path.write_bytes(b"II*\0\x08\0\0\0\xff\xff" + b"\x01" * 40),
    "x.png is a folder": Path.mkdir,
    "x.png is a pipe": os.mkfifo,
    "x.tif has 32 bits": lambda path: Image.new("F", (24, 16)).save(path),
    "x.gif moves": lambda path: RED.save(path, save_all=True, append_images=[Image.new("RGB", (8, 6))]),
    "notes.txt is a text": lambda path: path.write_text("hello"),
}


@pytest.mark.parametrize("layout", ["cat", "u1/cat", "u1/train/cat"])
def test_broken_pictures_are_named_and_the_others_are_kept(tmp_path: Path, layout: str) -> None:
    fill((tmp_path / "in" / layout).parent, 2)
    for number, (what, spoil) in enumerate(BROKEN.items()):
        name = what.split()[0]
        spoil(tmp_path / "in" / layout / f"b{number}{name}")
    with pytest.warns(MindflWarning, match="left out"):
        report = convert_images(tmp_path / "in", tmp_path / "out", users=2, progress=False)
    assert report.train_samples + report.test_samples == 6 and len(report.problems) == len(BROKEN)
    for number in range(len(BROKEN)):
        assert any(f"b{number}" in problem for problem in report.problems)


def test_hidden_files_and_links_in_a_circle_do_no_harm(tmp_path: Path) -> None:
    fill(tmp_path / "in", 2)
    draw(tmp_path / "in/cat/.hidden.png", size=(3, 3))
    draw(tmp_path / "in/.cache/x.png")
    (tmp_path / "in/cat/Thumbs.db").touch()
    (tmp_path / "in/cat/up").symlink_to("..")
    with pytest.warns(MindflWarning, match="left out: up in .*cat"):
        report = convert_images(tmp_path / "in", tmp_path / "out", users=2, progress=False)
    assert report.train_samples + report.test_samples == 6 and open_dataset(tmp_path / "out").class_names == tuple(
        COLOURS
    )


def test_doubtful_classes_are_named_and_kept(tmp_path: Path) -> None:
    fill(tmp_path / "in", 2)
    draw(tmp_path / "in/CAT/x.png")
    (tmp_path / "in/dog").mkdir()
    with pytest.warns(MindflWarning) as told:
        report = convert_images(tmp_path / "in", tmp_path / "out", users=1, progress=False)
    texts = [str(each.message) for each in told]
    assert texts == [
        "the classes CAT and cat differ in case only: they stay apart",
        "the class dog has no pictures",
    ]
    assert report.problems == () and report.classes == 5


def test_folders_whose_names_cannot_be_printed_are_named(tmp_path: Path) -> None:
    fill(tmp_path / "in/u", 2)
    draw(tmp_path / "in/u/\n/x.png")
    draw(Path(os.fsdecode(os.fsencode(tmp_path / "in/u") + b"/\xff/x.png")))
    draw(Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/\xff/cat/x.png")))
    with pytest.warns(MindflWarning, match="left out"):
        report = convert_images(tmp_path / "in", tmp_path / "out", progress=False)
    assert (report.users, report.train_samples + report.test_samples, report.classes) == (1, 6, 3)
    assert [problem.split(" in ")[0].split(" has no")[0] for problem in report.problems] == [
        "the folder '\\n'",
        "the folder '\\udcff'",
        "user name '\\udcff' cannot name a folder (use 1 to 200 plain characters)",
    ]


def test_accents_of_either_form_are_one_class(tmp_path: Path) -> None:
    for user, name in (("a", "caf\u00e9"), ("b", "cafe\u0301")):
        draw(tmp_path / "in" / user / name / "x.png")
    assert convert(tmp_path / "in")[1].class_names == ("caf\u00e9",)


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (lambda root: (root / "x").mkdir(), {}, "no image folders"),
        (lambda root: draw(root / "x.png"), {}, "no image folders"),
        (lambda root: draw(root / "a/b/c/d/x.png"), {}, "no image folders"),
        (lambda root: draw(root / "a/x.png").write_bytes(b""), {}, "no picture in"),
        (lambda root: draw(root / "a/x.png"), {"users": 3}, "1 sample cannot be divided among 3 users"),
        (lambda root: draw(root / "a/x.png"), {"partition": "idd"}, "unknown partition 'idd'"),
        (lambda root: draw(root / "a/x.png"), {"format": "bin"}, "needs <user>/<train|test>/<label>"),
        (lambda root: draw(root / "a/x.png"), {"format": "compact", "resize": 9}, "--resize is for --format arrays"),
        (lambda root: draw(root / "a/x.png"), {"format": "zip"}, "format must be one of bin, compact, arrays"),
        (lambda root: draw(root.parent / "out/x.png") and draw(root / "a/x.png"), {"users": 1}, "is not empty"),
    ],
)
def test_what_cannot_be_converted_is_one_clear_line(
    tmp_path: Path, make: Callable[[Path], object], options: dict[str, Any], words: str
) -> None:
    (tmp_path / "in").mkdir()
    make(tmp_path / "in")
    with pytest.raises((DataError, OptionError)) as refused:
        convert(tmp_path / "in", **options)
    assert words in refused.value.line()


def test_the_command_says_what_it_made(tmp_path: Path) -> None:
    fill(tmp_path / "in", 4)
    (tmp_path / "in/cat/broken.png").touch()
    out = tmp_path / "out"
    arguments = ["images", "--input", str(tmp_path / "in"), "--output", str(out), "--users", "2", "--batch_size", "9"]
    done = CliRunner().invoke(data_command, arguments)
    first, second, *_ = done.stdout.splitlines()
    assert first.startswith(f"{out}: 2 users, 10 train and 2 test samples of 3 classes; who has what: ")
    assert second.startswith("images of 16x24 with 3 channels, sha256 ")
    assert isinstance(done.exception, DataError) and str(done.exception).startswith("1 problem: ")
    assert "--batch_size 9 has no effect on the form arrays" in done.stderr
    assert Image.open(f"{out}-partition.png").size[0] > 300
    summary = inspect_dataset(out, sheet=tmp_path / "sheet.png")
    assert (summary.users, summary.classes) == (2, dict.fromkeys(COLOURS, 4))
    assert (summary.image_size, summary.channels, second.endswith(summary.sha256)) == ((16, 24), 3, True)
    colours = np.unique(np.asarray(Image.open(tmp_path / "sheet.png")).reshape(-1, 3), axis=0)
    assert {int(colour.argmax()) for colour in colours if np.ptp(colour) > 100} == {0, 1, 2}
    arguments = ["images", "--input", str(tmp_path / "in"), "--output", str(tmp_path / "b"), "--users", "2", "--json"]
    found = json.loads(CliRunner().invoke(data_command, arguments).stdout)
    assert (found["class_names"], found["image_size"], len(found["problems"])) == (list(COLOURS), [16, 24], 1)
    assert second.endswith(found["sha256"])
