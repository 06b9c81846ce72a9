"""The page on privacy: its table is the one that the command wrote, and its numbers are those of the code."""

from __future__ import annotations

import csv
import math
import re

import click
import pytest
from tutorial_blocks import REPOSITORY

from mindfl.cli.experiment import privacy50_command
from mindfl.cli.server import server_command
from mindfl.cli.simulate import simulate_command
from mindfl.experiments.mode_results import NAMES
from mindfl.privacy import GaussianAccountant, noise_multiplier
from mindfl.privacy.secagg import FixedPoint, plan_graph
from mindfl.server import ServerConfig

IMAGES = REPOSITORY / "docs" / "images"
TEXT = (REPOSITORY / "docs" / "privacy.md").read_text()
PROSE = " ".join(TEXT.split())
#: of LeNet
VALUES = 66_404


def rows_of(text: str, first: str) -> list[list[str]]:
    """Return the cells of the table whose head begins with the cell ``first``, without head and rule."""
    tables = re.findall(r"(?:^\|.*\n)+", text, re.M)
    lines = next(table for table in tables if table.startswith(f"| {first} |")).splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def measured() -> list[list[str]]:
    found = re.findall(r"(?:^\|.*\n)+", (IMAGES / "privacy.md").read_text(), re.M)
    assert len(found) == 1 and found[0] in TEXT, "the page shows the table that the command wrote"
    return rows_of(found[0], "mode")


def test_table_is_that_of_the_command() -> None:
    with (IMAGES / "privacy.csv").open(newline="") as file:
        results = list(csv.DictReader(file))
    rows = measured()
    assert len(rows) == len(results)
    for cells, result in zip(rows, results, strict=True):
        assert cells[0] == result["name"]
        assert cells[1:5] == [f"{float(result[name]):.3f}" for name in ("avg", "top5", "low5", "loss")]
        for cell, name, scale in (
            (cells[6], "bytes_up", 1000),
            (cells[7], "bytes_down", 1000),
            (cells[8], "seconds", 1),
        ):
            assert math.isclose(float(cell.replace(",", "")), float(result[name]) / scale, rel_tol=0.06)
        assert result["weights_sha256"].startswith(cells[11].strip("`"))


def test_modes_are_in_the_tables_order_under_their_names() -> None:
    names = [cells[0] for cells in measured()]
    known = list(NAMES.values())
    assert names == [name for name in known if name in names] and names[0] == "plain"


def test_what_hides_without_rounding_trains_the_same() -> None:
    by_name = {cells[0]: cells for cells in measured()}
    for name in {"PW_ENCRYPT", "STABLE_PW_ENCRYPT", "PW_EXACT"} & by_name.keys():
        assert abs(float(by_name[name][1]) - float(by_name["plain"][1])) < 0.03


def test_picture_is_there() -> None:
    assert "(images/privacy.png)" in TEXT
    assert (IMAGES / "privacy.png").read_bytes().startswith(b"\x89PNG")


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", TEXT):
        assert (REPOSITORY / "docs" / target).exists(), target


def options(command: click.Command) -> set[str]:
    return {name for each in command.params for name in each.opts}


def test_settings_exist_with_these_defaults() -> None:
    assert isinstance(server_command, click.Group)
    offered = options(simulate_command) | options(server_command.commands["start"])
    config = ServerConfig(fl_iteration_num=1, start_fl_job_threshold=50)
    for key, default, _ in rows_of(TEXT, "key, option"):
        name = key.strip("`").rpartition(".")[2].removeprefix("--")
        assert f"--{name}" in offered, name
        if name != "dp_budget":
            told = getattr(config, name)
            assert default.strip("`") == (told if isinstance(told, str) else f"{told:g}"), name


def test_options_that_the_text_names_exist() -> None:
    known = options(simulate_command) | options(privacy50_command)
    assert set(re.findall(r"`(--\w+)", TEXT)) <= known


@pytest.mark.parametrize("cells", rows_of(TEXT, "devices"), ids=lambda cells: f"{cells[0]} devices, {cells[2]} lost")
def test_graphs_are_those_that_are_planned(cells: list[str]) -> None:
    devices, corrupt, lost, degree, threshold = (int(cell.replace(",", "")) for cell in cells[:5])
    plan = plan_graph(devices, corrupt, lost)
    assert (plan.degree, plan.threshold) == (degree, threshold)
    for cell, exponent in zip(cells[5:], (plan.exposed_log2, plan.cut_off_log2, plan.not_recovered_log2), strict=True):
        assert cell == ("impossible" if exponent == -math.inf else f"2^{exponent:.0f}")


def test_figures_on_noise() -> None:
    spent = GaussianAccountant(noise_multiplier(50, 0.01), 0.01).epsilon(20)
    assert f"20 of them at epsilon 50 and delta 0.01 cost {spent:.0f}" in PROSE
    lengths = [noise_multiplier(epsilon, 0.01) * math.sqrt(VALUES / 50) for epsilon in (1, 10, 50)]
    assert "that is {:.0f}, {:.0f} and {:.1f}".format(*lengths) in PROSE
    assert "z is 1.83" in PROSE
    assert math.isclose(GaussianAccountant(1.83, 0.01).epsilon(20), 8, rel_tol=0.01)


def test_figures_on_masks() -> None:
    deviation = math.sqrt(50 / 3)
    assert f"with 50 devices {deviation:.1f}, that is {deviation / 146:.3f} for each weight" in PROSE
    correlation = 1 / math.hypot(1, deviation / (146 * 0.0714))
    assert f"correlates with the true one by {correlation:.2f}" in PROSE
    assert f"(with 50 devices {FixedPoint.for_job(50, 65535).fraction_bits} fraction bits)" in PROSE
