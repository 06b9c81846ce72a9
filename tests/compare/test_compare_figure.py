"""Figures of runs: what the curves and bands are, beside NumPy, and what is refused."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure
from stand_in_folders import write_run

from mindfl.cli.plot import plot_command
from mindfl.compare import plot_runs
from mindfl.compare.compared_runs import find_runs
from mindfl.compare.curves import group_curve, last_accuracies
from mindfl.compare.run_groups import RunGroup, grouped
from mindfl.errors import MindflWarning, OptionError
from mindfl.sim import Result, fonts
from mindfl.sim.plot import curve_style

CURVES = ([0.2, math.nan, 0.6], [0.3, 0.65, 0.8])


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return [write_run(tmp_path / f"run {seed}", avg, seed=seed) for seed, avg in enumerate(CURVES)]


@pytest.fixture
def group(runs: list[Path]) -> RunGroup:
    (found,) = grouped(find_runs(runs))
    return found


def test_curves_and_bands(group: RunGroup) -> None:
    table = np.array(CURVES)[:, [0, 2]]  # round 2 was evaluated with one seed only
    with pytest.warns(MindflWarning, match=r"fedavg: drawn at the 2 of 3 rounds of which all 2 runs have avg"):
        curve = group_curve(group, "avg")
    assert curve.x.tolist() == [1, 3] and curve.y == pytest.approx(table.mean(axis=0))
    assert curve.band[0] == pytest.approx(table.mean(axis=0) - table.std(axis=0, ddof=1))
    assert group_curve(group, "avg", band="range").band[1] == pytest.approx(table.max(axis=0))
    pooled = [[value + step for value in column for step in (-0.1, 0, 0.1)] for column in table.T]
    low, high = group_curve(group, "avg", band="clients").band
    assert low == pytest.approx([np.percentile(each, 10) for each in pooled])
    assert high == pytest.approx([np.percentile(each, 90) for each in pooled])
    assert group_curve(group, "avg", "seconds").x.tolist() == [10, 30]
    assert group_curve(group, "loss", "bytes", "none").x.tolist() == [4, 12], "MB"
    assert last_accuracies(group) == pytest.approx([0.6, 0.7, 0.8])


@pytest.mark.parametrize(("suffix", "begins"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_files(runs: list[Path], tmp_path: Path, suffix: str, begins: bytes) -> None:
    path = tmp_path / "größe" / f"a b.{suffix}"
    names = [f"$x_1 手写={runs[0]}", str(runs[1]), "--out", str(path), "--title", "x_1^2 $"]
    done = CliRunner().invoke(plot_command, names, catch_exceptions=False)
    assert f"written to {path}" in done.output and path.read_bytes().startswith(begins)


def test_into_axes_of_the_user(runs: list[Path]) -> None:

    axes = Figure().add_subplot()
    assert plot_runs(runs, column="loss", ax=axes, style={"lines.linewidth": 3}) is axes
    (line,) = axes.lines
    assert line.get_ydata() == pytest.approx(2 - np.array(CURVES)[:, [0, 2]].mean(axis=0))
    assert axes.get_xlabel() == "round" and axes.get_ylabel() == "training loss"
    strip = plot_runs(runs, kind="clients", ax=Figure().add_subplot())
    assert len(strip.collections[0].get_offsets()) == 3


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"path": "fig.gif"}, "suffix .gif of fig.gif is no picture format"),
        ({"path": "fig"}, "has no suffix"),
        ({"path": 3}, "a path must be a text or a Path, got 3"),
        ({}, "path or ax"),
        ({"ax": 3}, "ax must be axes of matplotlib, got 3"),
        ({"path": "fig.png", "column": "avgs"}, "--column: no run has 'avgs'"),
        ({"path": "fig.png", "column": "measured"}, "--column: no run has 'measured'"),
    ],
)
def test_refusals(runs: list[Path], tmp_path: Path, monkeypatch: Any, settings: dict[str, Any], error: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match=error):
        plot_runs(runs, **settings)
    assert not list(tmp_path.glob("fig*"))


def test_different_metrics_have_no_common_axis(runs: list[Path], tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    other = write_run(tmp_path / "p", [9.0, 4.0, 3.0], algorithm="scaffold", row={"metric": "perplexity"})
    axes = Figure().add_subplot()
    with pytest.warns(MindflWarning, match="evaluated differently"):
        for kind in ("curves", "clients"):
            with pytest.raises(OptionError, match="measured by accuracy and perplexity"):
                plot_runs([runs[0], other], kind=kind, ax=axes)
        plot_runs([runs[0], other], column="loss", ax=axes)
    assert len(axes.lines) == 2


def test_letters_that_no_font_has_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    monkeypatch.setattr(fonts, "_installed", lambda: ())
    fonts._warn.cache_clear()
    figure = Figure()
    figure.suptitle("é 手写")
    with pytest.warns(MindflWarning, match="no installed font has 写手: figures show boxes"):
        fonts.fit_fonts(figure)


def test_styles_differ_in_grey() -> None:
    styles = [curve_style(place, 40) for place in range(35)]
    assert len({(style["color"], style["linestyle"]) for style in styles}) == 35
    assert len({(style["linestyle"], style["marker"]) for style in styles[:10]}) == 10


def test_what_would_not_be_sent_is_not_drawn_over_bytes(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, [0.1, 0.2], algorithm=name) for name in ("fedavg", "local", "centralized")]
    for options in ({"x": "bytes"}, {"column": "bytes_up"}):
        axes = Figure().add_subplot()
        with pytest.warns(MindflWarning, match="not drawn, as nothing would be sent: local, centralized"):
            plot_runs(runs, ax=axes, **options)
        assert [line.get_label() for line in axes.get_lines()] == ["fedavg"]
    with pytest.raises(OptionError, match="nothing would be sent"):
        plot_runs(runs[1:], ax=Figure().add_subplot(), x="bytes")


def test_a_result_draws_into_axes_in_a_style(tmp_path: Path) -> None:
    result = Result.load(write_run(tmp_path / "run", [0.1, 0.2]))
    axes = Figure().add_subplot()
    result.plot(ax=axes, style={"lines.antialiased": False})
    assert len(axes.get_lines()) == 3 and not axes.get_lines()[0].get_antialiased()
    result.plot(tmp_path / "run.svg", style="ggplot")
    assert (tmp_path / "run.svg").read_text().startswith("<?xml")
    for wrong, fault in (({}, "path or ax"), ({"ax": axes, "style": "nonesuch"}, "style 'nonesuch' is none")):
        with pytest.raises(OptionError, match=fault):
            result.plot(**wrong)


def test_a_loaded_result_survives_pickle_and_shows_itself(tmp_path: Path) -> None:
    result = Result.load(write_run(tmp_path / "run", [0.1, 0.2]))
    again = pickle.loads(pickle.dumps(result))
    assert again.card == result.card and repr(again.history[:]) == repr(result.history[:]) and again.hash == result.hash
    assert again._repr_html_() == result._repr_html_() and "<table" in result._repr_html_()
    assert again.to_pandas()["avg"].tolist() == [0.1, 0.2]


def test_the_legend_of_a_long_label_stays_within_the_figure(runs: list[Path]) -> None:
    label = "a setting " * 30  # longer than the name of a folder can be
    figure = Figure(figsize=(6.4, 4.4))
    axes = figure.add_subplot()
    plot_runs([f"{label}={runs[0]}"], ax=axes)
    (line,) = axes.get_lines()
    lines = str(line.get_label()).split("\n")
    assert len(lines) > 3 and max(map(len, lines)) <= 72 and " ".join(lines).split() == label.split()
