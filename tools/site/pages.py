"""MkDocs hook: pages from outside of ``docs``, and a page of each public package, made from its docstrings."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
#: file outside of ``docs`` -> its place on the site
OUTSIDE = {
    **{f"notebooks/{path.name}": f"notebooks/{path.stem}.md" for path in sorted(ROOT.glob("notebooks/*.ipynb"))},
    **{
        f"notebooks/outputs/{path.name}": f"notebooks/outputs/{path.name}"
        for path in ROOT.glob("notebooks/outputs/*.png")
    },
    "README.md": "index.md",
    "README_CN.md": "index.zh.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "CITATION.cff": "CITATION.cff",
    "LICENSE": "LICENSE.txt",
}
_WITHOUT_NAVIGATION = "---\nhide: [navigation]\n---\n\n"
#: place in the navigation that stands for the pages of packages
API = "api"
_LINK = re.compile(r"\]\((?P<place>[^):#]+)")
_ROW = re.compile(r"^\|.*\|$", re.MULTILINE)
_CODE = re.compile(r"`[^`]+`")


def on_config(config: Any) -> Any:
    """Put the pages of packages into the navigation."""
    _place(config.nav, [{name: f"{API}/{name}.md"} for name in api_pages()])
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that do not lie in ``docs``."""
    for name, place in OUTSIDE.items():
        if name.endswith(".ipynb"):
            files.append(File.generated(config, place, content=notebook_page(ROOT / name)))
        elif name.endswith(".md"):
            text = from_top((ROOT / name).read_text("utf-8"))
            files.append(
                File.generated(config, place, content=_WITHOUT_NAVIGATION + text if "index" in place else text)
            )
        else:
            files.append(File.generated(config, place, abs_src_path=str(ROOT / name)))
    for name, text in api_pages().items():
        files.append(File.generated(config, f"{API}/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Let links of ``docs`` to the top folder lead to where its pages are, and show ``|`` of code in tables."""
    moved = _LINK.sub(lambda link: f"]({_moved(link['place'], '../')}", markdown)
    return _ROW.sub(lambda row: _CODE.sub(lambda code: code[0].replace("\\|", "|"), row[0]), moved)


def from_top(text: str) -> str:
    """Return a page of the top folder with its links as they are from ``docs``."""
    return _LINK.sub(lambda link: f"]({_moved(link['place'].removeprefix('docs/'), '')}", text)


def notebook_page(path: Path) -> str:
    """Return a notebook's texts, code and recorded outputs as a page."""
    parts = []
    recorded = json.loads((path.parent / "outputs" / f"{path.stem}.json").read_text("utf-8"))
    shown = iter([cell["html"] for cell in recorded])
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            parts.append(f"```python\n{text}\n```")
            if html := next(shown):
                parts.append(f'<div class="output">{html}</div>')
        else:
            parts.append(text)
    return "\n\n".join(parts).replace("](../docs/", "](../").replace(".ipynb)", ".md)")


def api_pages() -> dict[str, str]:
    """Return a page of each package with its public names; those that ``mindfl`` exports are on its page alone."""
    package = ROOT / "mindfl"
    exported = _public_names(package / "__init__.py")
    pages = {"mindfl": _page("mindfl", exported, [])}
    for path in sorted(package.glob("*/__init__.py")):
        names = _public_names(path)
        if names:
            own = [name for name in names if name not in exported]
            name = f"mindfl.{path.parent.name}"
            pages[name] = _page(name, own, [name for name in names if name in exported])
    pages["mindfl.errors"] = _module("mindfl.errors", "members: true")
    return pages


def _page(package: str, names: list[str], elsewhere: list[str]) -> str:
    also = ", ".join(f"[`{name}`][mindfl.{name}]" for name in elsewhere)
    return "\n".join(
        [
            _module(package, "members: false"),
            f"Also here: {also}.\n" if also else "",
            *(f"::: {package}.{name}\n    options: {{heading_level: 2}}\n" for name in names),
        ]
    )


def _module(name: str, members: str) -> str:
    options = f"{{{members}, heading_level: 1, show_root_heading: false, show_root_toc_entry: false}}"
    return f"# {name}\n\n::: {name}\n    options: {options}\n"


def _public_names(path: Path) -> list[str]:
    """Return ``__all__`` of a module without importing it."""
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return [name for name in ast.literal_eval(node.value) if not name.startswith("_")]
    return []


def _moved(place: str, base: str) -> str:
    return OUTSIDE.get(place.removeprefix(base), place) if place.startswith(base) else place


def _place(entries: list[Any], pages: list[dict[str, str]]) -> None:
    for entry in entries:
        for title, target in entry.items():
            if target == API:
                entry[title] = pages
            elif isinstance(target, list):
                _place(target, pages)
