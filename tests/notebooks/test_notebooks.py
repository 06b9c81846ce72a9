"""The notebooks run as they are, each in an empty folder; the site shows outputs of the code that they have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed (pip install nbformat)")
pytest.importorskip("nbclient", reason="nbclient is not installed (pip install nbclient)")

from notebook_outputs import NOTEBOOKS, OUTPUTS, recorded, run  # noqa: E402 - after the skips

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
#: of all pictures together: the repository is no place for large ones
MOST_BYTES = 300_000


@each_notebook
def test_is_stored_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code and all(cell.outputs == [] and cell.execution_count is None for cell in code)


@each_notebook
def test_links_lead_to_files(path: Path) -> None:
    texts = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
    links = re.findall(r"\]\(([^)#]+)", "".join(texts))
    assert links and [link for link in links if not (path.parent / link).exists()] == []


@each_notebook
def test_the_outputs_on_the_site_are_those_of_its_code(path: Path) -> None:
    code = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell["code"] for cell in recorded(path)] == code, "run: make notebooks"


def test_pictures_on_the_site_are_there_and_small() -> None:
    shown = [cell["html"] for path in NOTEBOOKS for cell in recorded(path)]
    named = re.findall(r'<img src="outputs/([^"]+)"', "".join(shown))
    assert len(named) > 4 and sorted(named) == sorted(path.name for path in OUTPUTS.glob("*.png"))
    assert "base64" not in "".join(shown) and "/tmp" not in "".join(shown)
    assert sum(path.stat().st_size for path in OUTPUTS.iterdir()) < MOST_BYTES


@pytest.mark.slow
@pytest.mark.usefixtures("converter_library")
@each_notebook
def test_runs(path: Path, tmp_path: Path) -> None:
    shown = "".join(str(output) for cell in run(path, tmp_path).cells for output in cell.get("outputs", ()))
    assert "<img src=" in shown or path.stem.startswith("04")
    assert "'text/plain': 'False'" not in shown
