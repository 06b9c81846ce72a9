"""What the cells of notebooks show on their pages of the site: run as a program, it writes ``notebooks/outputs``."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import sys
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import nbclient
import nbformat
from PIL import Image

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
OUTPUTS = ROOT / "notebooks" / "outputs"
SECONDS = 600
#: enough for figures and pictures of writing; a third of the bytes
COLOURS = 48
_EMBEDDED = re.compile(r"data:image/png;base64,([\w+/=]+)")


def run(path: Path, folder: Path) -> Any:
    """Run a notebook in a folder; return it with its outputs."""
    notebook = nbformat.read(path, as_version=4)
    kernels = folder / "kernels"
    spec = kernels / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(f'{{"argv": ["{sys.executable}", "-m", "ipykernel_launcher", "-f", "{{connection_file}}"]}}')
    environment = {
        "JUPYTER_PATH": str(kernels),
        "IPYTHONDIR": str(folder / "ipython"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    with patch.dict(os.environ, environment):
        client = nbclient.NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": str(folder)}})
        client.execute()
    return notebook


def recorded(path: Path) -> list[dict[str, str]]:
    """Return ``code`` and ``html`` of each cell with code, as they were written."""
    return list(json.loads((OUTPUTS / f"{path.stem}.json").read_text("utf-8")))


def write(path: Path) -> None:
    """Run a notebook, and write what its cells show, with pictures as files beside it."""
    with TemporaryDirectory() as folder:
        cells = [cell for cell in run(path, Path(folder)).cells if cell.cell_type == "code"]
        html = ["".join(map(_html, cell.outputs)).replace(f"{folder}{os.sep}", "") for cell in cells]
    for old in OUTPUTS.glob(f"{path.stem}*"):
        old.unlink()
    OUTPUTS.mkdir(exist_ok=True)
    shown = [
        {"code": cell.source, "html": _with_files(text, f"{path.stem}_{number}")}
        for number, (cell, text) in enumerate(zip(cells, html, strict=True), 1)
    ]
    (OUTPUTS / f"{path.stem}.json").write_text(json.dumps(shown, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _html(output: Any) -> str:
    """Return an output as HTML; progress and warnings, which go to standard error, are left out."""
    if output.output_type == "stream":
        return f"<pre>{escape(output.text)}</pre>" if output.name == "stdout" else ""
    data = output.data
    if "text/html" in data:
        return str(data["text/html"])
    if "image/png" in data:
        return f'<img src="data:image/png;base64,{data["image/png"].strip()}" alt="figure">'
    return f"<pre>{escape(data['text/plain'])}</pre>"


def _with_files(html: str, name: str) -> str:
    """Return HTML in which embedded pictures are files, which are written."""

    def named(found: re.Match[str]) -> str:
        numbers.append(f"{name}_{len(numbers) + 1}.png")
        with Image.open(io.BytesIO(base64.b64decode(found[1]))) as picture:
            small = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
            small.save(OUTPUTS / numbers[-1], optimize=True)
        return f"outputs/{numbers[-1]}"

    numbers: list[str] = []
    return _EMBEDDED.sub(named, html)


if __name__ == "__main__":
    for each in NOTEBOOKS:
        write(each)
