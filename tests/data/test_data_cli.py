"""``mindfl data`` as a user types it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mindfl.cli import main
from mindfl.data import open_dataset

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run ``mindfl data ...`` in an empty folder; return exit code, standard output and standard error."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")

    def run_command(*arguments: object) -> tuple[int, str, str]:
        code = 0
        try:
            main(["data", *map(str, arguments)])
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        return code, *capsys.readouterr()

    return run_command


def leaf_shard(folder: Path, users: dict[str, int]) -> None:
    """Write an unsplit shard; a user with a negative size has labels out of range."""
    data = {
        user: {"x": [[1.0] * 784] * abs(size), "y": [62 if size < 0 else 5] * abs(size)} for user, size in users.items()
    }
    folder.mkdir()
    content = {"users": list(data), "num_samples": [len(value["y"]) for value in data.values()], "user_data": data}
    (folder / "shard.json").write_text(json.dumps(content))


def test_synthetic_convert_inspect(run: Run, tmp_path: Path) -> None:
    code, out, err = run("synthetic", "--output", "set one", "--users", 2, "--seed", 5)
    assert (code, err) == (0, "") and "2 users" in out and "source synthetic, format compact" in out
    assert run("convert", "--input", "set one", "--output", "bins", "--format", "bin", "--batch-size", 16)[0] == 0
    assert open_dataset("bins").user(0).train.pixels.shape[0] % 16 == 0
    code, out, err = run("inspect", "bins", "--json")
    summary = json.loads(out)
    assert (code, err) == (0, "") and summary["kind"] == "bin" and summary["synthetic"] and summary["users"] == 2
    assert sum(summary["classes"].values()) == summary["train_samples"] + summary["test_samples"]
    assert summary["sheet"] == "bins-sheet.png" and Image.open("bins-sheet.png").size == (24 * 66, 2 * 80)
    code, out, _ = run("inspect", "set one", "--sheet", tmp_path / "p.png")
    assert code == 0 and "samples per user" in out and (tmp_path / "p.png").exists()


def test_a_batch_size_of_the_compact_form_is_named(run: Run) -> None:
    warning = "mindfl: warning: --batch_size 16 has no effect on --format compact: it has no batches\n"
    assert run("synthetic", "--output", "a", "--users", 1, "--batch_size", 16)[2].startswith(warning)
    for form in ("compact", "bin"):
        options = ["--input", "a", "--output", form, "--format", form, "--batch_size", 16]
        assert run("convert", *options)[2].count(warning) == (form == "compact")


@pytest.mark.parametrize(("place", "named"), [("in", 0), ("in/all_data", 0), ("in/train", 1)])
def test_a_seed_for_what_leaf_has_split_is_named(place: str, named: int, run: Run, tmp_path: Path) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    leaf_shard(tmp_path / place, {"f1": 20})
    code, out, err = run("leaf", "--input", tmp_path / "in", "--output", "out", "--seed", 3)
    warning = "mindfl: warning: --seed 3 has no effect on train/ and test/: LEAF has split the samples already\n"
    assert (code, err.count(warning)) == (0, named)
    assert ("1 user (1 without test samples), 20 train" in out) == bool(named)


def test_leaf_writes_the_tutorials_layout(run: Run, tmp_path: Path) -> None:
    leaf_shard(tmp_path / "in", {"f1": 40})
    code, out, _ = run("leaf", "--input", tmp_path / "in", "--output", "out", "--seed", 1, "--json")
    assert code == 0 and json.loads(out)["train_samples"] == 36
    names = {path.name for path in Path("out/f1").iterdir()}
    assert names == {
        "f1_bn_2_train_data.bin",
        "f1_bn_2_train_label.bin",
        "f1_bn_1_test_data.bin",
        "f1_bn_1_test_label.bin",
        "manifest.json",
    }


def test_one_broken_user_is_one_line_and_exit_code_40(run: Run, tmp_path: Path) -> None:
    leaf_shard(tmp_path / "in", {"f1": 4, "f2": -4, "f3": 4})
    code, out, err = run("leaf", "--input", tmp_path / "in", "--output", "out")
    lines = err.splitlines()
    assert code == 40 and "2 users" in out and len(lines) == 2
    assert "user f2" in lines[0] and "shard.json" in lines[0] and lines[1].endswith("[E-DATA]")
    assert open_dataset("out").users == ("f1", "f3")


def test_inspect_names_broken_users_and_counts_the_rest(run: Run) -> None:
    run("synthetic", "--output", "s", "--users", 3, "--format", "bin")
    os.truncate(next(Path("s/synthetic_0001").glob("*train_data.bin")), 100)
    code, out, err = run("inspect", "s", "--json")
    assert code == 40 and json.loads(out)["users"] == 2 and len(json.loads(out)["problems"]) == 1
    assert "synthetic_0001" in err.splitlines()[0] and "1 of 3 users" in err.splitlines()[1]


def test_images(run: Run, tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / "in/u" / part / "A").mkdir(parents=True)
        Image.fromarray(np.full((28, 28), 9, np.uint8)).save(tmp_path / "in/u" / part / "A" / "i.png")
    assert run("images", "--input", tmp_path / "in", "--output", "out", "--format", "compact")[0] == 0
    assert open_dataset("out").user("u").test.labels.tolist() == [10]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["inspect", "missing"], 40),
        (["inspect", "."], 40),
        (["leaf", "--input", "missing", "--output", "o"], 40),
        (["images", "--input", "missing", "--output", "o"], 40),
        (["convert", "--input", "missing", "--output", "o", "--format", "bin"], 40),
        (["synthetic", "--output", "o", "--users", "0"], 2),
        (["synthetic", "--output", "o", "--format", "zip"], 2),
        (["synthetic", "--output", "/proc/nothing/o", "--users", "1"], 3),
        (["synthetic"], 2),
    ],
)
def test_bad_input_is_one_clear_line(arguments: list[str], expected: int, run: Run) -> None:
    code, out, err = run(*arguments)
    assert code == expected and out == "" and "Traceback" not in err
    assert expected == 2 or len(err.splitlines()) == 1
    assert not list(Path().iterdir())


def test_a_sheet_that_cannot_be_written(run: Run, synthetic: Path) -> None:
    code, _, err = run("inspect", synthetic, "--sheet", "/proc/sheet.png")
    assert code == 3 and len(err.splitlines()) == 1
