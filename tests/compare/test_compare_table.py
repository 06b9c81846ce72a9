"""Comparison of runs: groups, numbers beside NumPy's, formats, and what is named in warnings."""

from __future__ import annotations

import csv
import io
import json
import math
import pickle
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from stand_in_folders import write_run, write_sweep

from mindfl import Result
from mindfl.cli.compare import compare_command
from mindfl.compare import compare_runs
from mindfl.compare.measures import Spread
from mindfl.errors import MindflWarning, OptionError
from mindfl.sim.run_folder import locked
from mindfl.sim.tables import latex_table, latex_text, markdown_table, markdown_text, text_table

#: AVG after each round of seeds 0, 1, 2 of two algorithms
FEDAVG = ([0.2, 0.5, 0.6], [0.3, 0.65, 0.7], [0.25, 0.45, 0.8])
FEDPROX = ([0.3, 0.6, 0.75], [0.3, 0.7, 0.65], [0.2, 0.5, 0.9])


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Three runs of each algorithm; their numbers of workers and ways of execution differ."""
    kinds = {"fedavg": FEDAVG, "fedprox:mu=0.1": FEDPROX}
    return [
        write_run(tmp_path / f"{name[:7]} {seed}", avg, algorithm=name, seed=seed, workers=seed + 1)
        for name, curves in kinds.items()
        for seed, avg in enumerate(curves)
    ]


@pytest.fixture
def no_warning() -> None:
    warnings.simplefilter("error", MindflWarning)


@pytest.mark.usefixtures("no_warning")
def test_groups_and_numbers(runs: list[Path]) -> None:
    comparison = compare_runs(runs, target=0.65)
    assert [group.label for group in comparison.groups] == ["fedavg", "fedprox:mu=0.1"]
    frame = comparison.to_pandas().set_index("label")
    last = {"fedavg": [curve[-1] for curve in FEDAVG], "fedprox:mu=0.1": [curve[-1] for curve in FEDPROX]}
    for label, values in last.items():
        row = frame.loc[label]
        assert row["avg_mean"] == pytest.approx(np.mean(values)) and row["runs"] == 3
        assert row["avg_sd"] == pytest.approx(np.std(values, ddof=1))
        assert row["top5_mean"] == pytest.approx(np.mean(values) + 0.05)
        assert (row["bytes_up_mean"], row["seconds_mean"], row["rounds_mean"]) == (6e6, 30, 3)
    pairs = np.subtract(last["fedprox:mu=0.1"], last["fedavg"])
    found = frame.loc["fedprox:mu=0.1"]
    assert (found["difference_mean"], found["difference_sd"]) == pytest.approx((pairs.mean(), pairs.std(ddof=1)))
    assert frame["best_mean"].tolist() == pytest.approx([np.mean([0.6, 0.7, 0.8]), np.mean([0.75, 0.7, 0.9])])
    # fedavg reaches 0.65 with seeds 1 and 2 only, in rounds 2 and 3
    assert frame.loc["fedavg", ["rounds_to_target_mean", "rounds_to_target_n"]].tolist() == [2.5, 2]
    assert frame.loc["fedavg", "seconds_to_target_mean"] == 25
    assert "2.5 ± 0.7 (2 of 3)" in str(comparison) and "3.0 (3 pairs)" not in str(comparison)
    assert compare_runs(runs, target=0.95).table().count("not reached") == 4
    assert comparison._repr_html_().count("<tr>") == 3 and "fedprox:mu=0.1" in comparison._repr_html_()
    again = pickle.loads(pickle.dumps(comparison))
    assert again.table() == comparison.table()


@pytest.mark.usefixtures("no_warning")
def test_baseline_columns_and_labels(runs: list[Path], tmp_path: Path) -> None:
    comparison = compare_runs([*runs[:3], f"new way={runs[4]}"], columns="rounds, difference", baseline="new way")
    assert comparison.table("csv").splitlines()[0].startswith("label,runs,rounds_mean,rounds_sd,rounds_n,difference_")
    assert comparison.difference(comparison.groups[0]).mean == pytest.approx(0.7 - 0.65)
    assert "+0.0500 (1 pair)" in comparison.table() and "baseline" in comparison.table().splitlines()[2]
    alone = compare_runs([Result.load(runs[0]), runs[4]], columns="avg,difference")
    assert "no common seed" in alone.table()
    # a folder whose name has the sign of a label
    odd = write_run(tmp_path / "lr=0.1", [0.5], algorithm="scaffold")
    assert compare_runs([odd]).groups[0].label == "scaffold"
    assert compare_runs([str(odd)]).groups[0].runs[0].name == str(odd)


def test_one_label_for_runs_that_differ_is_named(tmp_path: Path) -> None:
    for name, settings in {"a": {"algorithm": "fedavg"}, "b": {"algorithm": "fedprox:mu=0.1", "epochs": 2}}.items():
        write_run(tmp_path / "runs" / name, [0.5], **settings)
    write_sweep(tmp_path, {"a": "done", "b": "done"})
    with pytest.warns(
        MindflWarning, match="new: the mean of 2 runs that differ in algorithm, epochs, as they have one"
    ):
        (group,) = compare_runs([f"new={tmp_path}"]).groups
    assert group.label == "new" and len(group.runs) == 2


def test_what_is_no_table_form_and_no_folder(tmp_path: Path) -> None:
    comparison = compare_runs(write_run(tmp_path / "run", [0.5]))
    for form in ("md", 3, None):
        with pytest.raises(OptionError, match=f"format is {form!r}"):
            comparison.table(form)
    with pytest.raises(OptionError, match="a path must be a text or a Path, got None"):
        Result.load(None)


def test_settings_of_labels(tmp_path: Path) -> None:
    one = write_run(tmp_path / "1", [0.5], epochs=1, train_dataset="/data/mnist", data="a" * 64)
    two = write_run(tmp_path / "2", [0.5], epochs=5, train_dataset="/data/mnist", data="a" * 64)
    three = write_run(tmp_path / "3", [0.5], epochs=5, train_dataset="/data/cifar", data="b" * 64)
    moved = write_run(tmp_path / "4", [0.5], epochs=5, train_dataset="/moved/cifar", data="b" * 64, seed=1)
    with pytest.warns(MindflWarning, match=r"trained on different data.*data aaaaaaaa: .*1 and 1 more; data bbbbbbbb"):
        groups = compare_runs([one, two, three, moved]).groups
    assert [group.label for group in groups] == ["mnist, epochs=1", "mnist, epochs=5", "cifar, epochs=5"]
    assert len(groups[-1].runs) == 2


def test_a_network_of_the_users_begins_as_its_class_says(tmp_path: Path) -> None:
    models = [("lenet", "lecun"), ("lenet", "he"), ("Net", None)]
    runs = [write_run(tmp_path / f"{model} {init}", [0.5], model=model, init=init) for model, init in models]
    labels = [[group.label for group in compare_runs(some).groups] for some in (runs[1:], runs)]
    assert labels == [["lenet", "Net"], ["lenet, init=lecun", "lenet, init=he", "Net, init=none"]]


def test_a_run_that_has_not_ended_is_of_the_group_of_the_others(tmp_path: Path) -> None:
    """Its folder does not say yet which learning rate and momentum were the defaults."""
    ended = write_run(tmp_path / "1", [0.5], optimizer="adam")
    card = json.loads((ended / "result.json").read_text())
    card["settings"] = {"optimizer": "adam", "learning_rate": 0.001, "momentum": None}
    (ended / "result.json").write_text(json.dumps(card))
    going = write_run(tmp_path / "2", [0.5], optimizer="adam", momentum=0.9, seed=1, ended=False)
    with pytest.warns(MindflWarning, match="has not ended"):
        (group,) = compare_runs([ended, going]).groups
    assert len(group.runs) == 2


@pytest.mark.usefixtures("no_warning")
def test_pooled_data_are_the_same_data_and_one_algorithm_has_many_texts(tmp_path: Path) -> None:
    """All data in one place have another fingerprint than the same data apart."""
    names = ("fedavg", "local", "centralized", "fedprox:mu=.1", "fedprox:mu=0.1", "fedprox")
    runs = [
        write_run(tmp_path / name, [0.5], algorithm=name, seed=seed, train_dataset="/x", data=data * 64)
        for seed, (name, data) in enumerate(zip(names, "aabaaa", strict=True))
    ]
    groups = compare_runs(runs).groups
    assert [group.label for group in groups] == ["fedavg", "local", "centralized", "fedprox:mu=.1"]
    assert [len(group.runs) for group in groups] == [1, 1, 1, 3]
    other = write_run(tmp_path / "other", [0.5], algorithm="centralized", seed=9, train_dataset="/y", data="c" * 64)
    with pytest.warns(MindflWarning, match=r"trained on different data.*centralized.*other"):
        compare_runs([*runs, other])


def test_numbers_of_different_metrics_have_no_difference_and_baselines_no_bytes(tmp_path: Path) -> None:
    accuracy = write_run(tmp_path / "a", [0.5], algorithm="local")
    perplexity = write_run(tmp_path / "p", [9.0], algorithm="fedprox", row={"metric": "perplexity"})
    with pytest.warns(MindflWarning, match="evaluated differently"):
        comparison = compare_runs([accuracy, perplexity], columns="avg,bytes_up,avg,difference")
    head, _, *rows = comparison.table("markdown").splitlines()
    assert head.count("AVG accuracy or perplexity") == 1
    assert [re.split(r" *\| *", row)[1:-1] for row in rows] == [
        ["local", "1", "0.5000", "-", "baseline"],
        ["fedprox", "1", "9.0000", "2.0", "another metric"],
    ]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"data": "e" * 64}, "the runs were trained on different data"),
        (
            {"row": {"measured": "drawn"}},
            r"differently.* accuracy of all clients: .*accuracy of drawn clients",
        ),
        ({"avg": [0.5, 0.6]}, r"different numbers of rounds.*: 3: .*; 2: "),
        ({"ended": False}, r"other has not ended: its first 3 of 3 iterations are compared"),
        ({"iterations": 5}, r"other was interrupted: its first 3 of 5 iterations are compared"),
        ({"seed": 0, "algorithm": "fedavg"}, r"other has the settings and the seed of .*fedavg 0, and is not counted"),
    ],
)
def test_what_is_hard_to_compare_is_named(runs: list[Path], tmp_path: Path, change: dict, text: str) -> None:
    settings = {"avg": FEDAVG[0], "algorithm": "scaffold", "seed": 1, "iterations": 3, **change}
    other = write_run(tmp_path / "other", settings.pop("avg"), **settings)
    with pytest.warns(MindflWarning, match=text):
        compare_runs([*runs[:3], other])


def test_a_sweep_stands_for_its_finished_runs(tmp_path: Path) -> None:
    for name, avg in {"a": FEDAVG[0], "b": FEDAVG[1]}.items():
        write_run(tmp_path / "runs" / name, avg, seed=ord(name))
    write_sweep(tmp_path, {"a": "done", "b": "done", "c": "failed", "d": "waiting", "e": "running"})
    left_out = r"3 runs of the sweep not compared: c \(failed\), d \(waiting\), e "
    with pytest.warns(MindflWarning, match=rf"{left_out}\(interrupted: "):
        (group,) = compare_runs(tmp_path).groups
    with locked(tmp_path), pytest.warns(MindflWarning, match=rf"{left_out}\(running\)"):
        compare_runs(tmp_path)
    assert len(group.runs) == 2 and group.label == "fedavg"
    (tmp_path / "config.json").write_text("{}")
    with pytest.warns(MindflWarning, match="holds a sweep and a run of its own"), pytest.warns(match="not compared"):
        compare_runs(tmp_path)


@pytest.mark.parametrize(
    ("make", "settings", "error"),
    [
        (lambda folder: [], {}, "there is no run"),
        (lambda folder: None, {}, "runs must be a list, got None"),
        (lambda folder: {"a": folder / "run"}, {}, "runs must be a list, got {'a': "),
        (lambda folder: [folder / "run", 3], {}, "a run must be a folder or a result, got 3"),
        (lambda folder: [folder / "nowhere"], {}, "nowhere holds no run"),
        (lambda folder: [""], {}, "the folder of a run is empty"),
        (lambda folder: [f"a={folder / 'nowhere'}"], {}, "nowhere holds no run"),
        (lambda folder: [folder / "run"], {"columns": "avgs"}, "--columns: no run has 'avgs'"),
        (lambda folder: [folder / "run"], {"columns": " , "}, "--columns names no column"),
        (lambda folder: [folder / "run"], {"columns": "rounds_to_target"}, "rounds_to_target needs --target"),
        (lambda folder: [folder / "run"], {"target": 70}, "no accuracy reaches --target 70"),
        (lambda folder: [folder / "run"], {"baseline": "fedprox"}, "--baseline 'fedprox' is no group"),
    ],
)
def test_refusals(tmp_path: Path, make: Callable, settings: dict, error: str) -> None:
    write_run(tmp_path / "run", [0.5])
    with pytest.raises(OptionError, match=error):
        compare_runs(make(tmp_path), **settings)


@pytest.mark.parametrize(
    "content", ["", "[]", '{"format": 1}', '{"format": 1, "runs": [{}]}', '{"format": 2, "runs": []}']
)
def test_a_damaged_sweep_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(OptionError, match=r"sweep\.json (is not the|has format 2)"):
        compare_runs([tmp_path])


def test_the_command(runs: list[Path], tmp_path: Path) -> None:
    call = CliRunner().invoke
    names = [str(run) for run in runs]
    shown = call(compare_command, names, catch_exceptions=False)
    assert shown.output == compare_runs(runs).table()
    for suffix, form in {".txt": "text", ".csv": "csv", ".md": "markdown", ".tex": "latex"}.items():
        path = tmp_path / "größe" / f"table{suffix}"
        assert f"written to {path}" in call(compare_command, [*names, "--out", str(path)]).output
        assert path.read_text("utf-8") == compare_runs(runs).table(form)
    answer = json.loads(call(compare_command, [*names, "--json"]).output)
    assert [row["label"] for row in answer] == ["fedavg", "fedprox:mu=0.1"]
    refused = call(compare_command, [*names, "--format", "md"])
    assert str(refused.exception) == "--format must be one of text, csv, markdown, latex, got 'md'"
    refused = call(compare_command, [*names, "--out", "table.doc"])
    assert isinstance(refused.exception, OptionError) and "does not say the format" in str(refused.exception)


def test_a_metric_of_a_callback_is_a_column(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [0.5, 0.6], metrics={"fairness": [0.1, 0.25]})
    (row,) = csv.DictReader(io.StringIO(compare_runs([run], columns="fairness").table("csv")))
    assert (row["fairness_mean"], row["fairness_sd"]) == ("0.25", "")


#: what LaTeX sets for each letter that it does not set as itself, from the LaTeX2e guide
LATEX = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}"},
    **{"[": "{[}", "]": "{]}"},
}


@given(st.text(st.sampled_from([*LATEX, "a", "1", "-", " ", "é", "手", "\n"]), max_size=12))
def test_latex_sets_the_text(text: str) -> None:
    back = {command: letter for letter, command in LATEX.items()}
    words = re.compile("|".join(re.escape(command) for command in sorted(back, key=len, reverse=True)))
    escaped = latex_text(text)
    assert words.sub(lambda found: back[found[0]], escaped) == " ".join(text.split())
    assert not re.search(r"[&%$#_{}\\~^<>|\"\[\]]", words.sub("", escaped))


def test_cells_stay_cells() -> None:
    header, rows = ["", "a|b"], [["x & y\nz", "-1.5 ± 2"], ["手写", "+3"]]
    latex = latex_table(header, rows, range(1, 2))
    assert latex[1] == "% needs XeLaTeX or LuaLaTeX, and a font with all letters"
    assert latex[6:8] == [r"x \& y z & $-$1.5 $\pm$ 2 \\", r"手写 & $+$3 \\"]
    assert text_table(header, rows, range(1, 2)) == ["              a|b", "x & y z  -1.5 ± 2", "手写           +3"]
    assert markdown_table(header, rows)[0] == r"|  | a\|b |"
    assert markdown_table(header, rows)[2] == "| x & y z | -1.5 ± 2 |"


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("fedprox:mu=0.1, learning_rate=0.1", "fedprox:mu=0.1, learning_rate=0.1"),
        (r"*a* `b` <b> [c](d) a\b", r"\*a\* \`b\` \<b\> \[c\](d) a\\b"),
        ("_a_ b__c a_b 1_2", r"\_a\_ b\_\_c a_b 1_2"),
        ("~~old~~ &amp; &#42; R&D;x & y", r"\~\~old\~\~ \&amp; \&#42; R\&D;x & y"),
        ("手写_手", "手写_手"),
    ],
)
def test_markdown_shows_the_text(text: str, escaped: str) -> None:
    assert markdown_text(text) == escaped


def test_nothing_known() -> None:
    spread = Spread.of([math.nan])
    assert (spread.text(2), spread.known, spread.runs) == ("-", 0, 1) and math.isnan(spread.mean)
    assert Spread.of([0.5, 0.5]).text(1) == "0.5"
