"""The documentation site: built from ``mkdocs.yml`` with warnings as errors, and complete without any network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tutorial_blocks import REPOSITORY

pytest.importorskip("mkdocstrings", reason="mkdocs is not installed (pip install '.[docs]')")

#: a build takes ten seconds
pytestmark = pytest.mark.slow

#: tag -> attribute with what a browser fetches
FETCHED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}
#: what themes and Markdown write; ``<name>`` in a text is a tag too, which a browser does not show
TAGS = re.compile(
    "a|article|aside|autoref|blockquote|body|br|button|code|dd|details|div|dl|dt|em|footer|form|h[1-6]|head|header|hr|html|img|input|"
    "label|li|link|main|meta|nav|ol|p|path|pre|script|small|span|strong|style|summary|svg|table|tbody|td|th|thead|title|tr|ul"
)
#: what Markdown, reStructuredText or doctest leave in a text where they were not understood
RAW = re.compile(r":\w+:`|\\[<_*|]|\]\(|```|^\||\n(?:[-*]|\d+\.) |\|---|>>> |\]\[")


class Page(HTMLParser):
    """What a built page fetches, and its text outside of code."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.tags: set[str] = set()
        self.paragraphs: list[str] = []
        self._code = 0
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag in FETCHED:
            self.fetched.append(dict(attrs).get(FETCHED[tag]) or "")
        self._code += tag in ("code", "pre", "script", "style")
        if tag in ("p", "li", "td", "h1", "h2", "h3", "h4"):
            self.paragraphs.append("")

    def handle_endtag(self, tag: str) -> None:
        self._code -= tag in ("code", "pre", "script", "style")

    def handle_data(self, data: str) -> None:
        if self.paragraphs and not self._code:
            self.paragraphs[-1] += data


def build(out: Path, config: Path = REPOSITORY / "mkdocs.yml") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(out)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = build(out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    return {str(path.relative_to(site)): Page(path) for path in site.rglob("*.html")}


def test_each_document_and_each_package_has_a_page(pages: dict[str, Page]) -> None:
    documents = {f"{path.stem}.html" for path in (REPOSITORY / "docs").glob("*.md")}
    packages = {f"api/mindfl.{name}.html" for name in ("algorithms", "data", "errors", "lite", "server", "sim")}
    assert len(documents) > 15
    notebooks = {f"notebooks/{path.stem}.html" for path in (REPOSITORY / "notebooks").glob("*.ipynb")}
    assert len(notebooks) == 4
    assert {"index.html", "index.zh.html", "api/mindfl.html", *documents, *packages, *notebooks} <= pages.keys()


def test_names_in_docstrings_are_links_to_their_pages(site: Path) -> None:
    assert 'href="mindfl.errors.html#mindfl.errors.MindflWarning"' in (site / "api" / "mindfl.html").read_text("utf-8")


def test_notebooks_show_their_pictures(site: Path, pages: dict[str, Page]) -> None:
    shown = [
        url
        for name, page in pages.items()
        if name.startswith("notebooks/")
        for url in page.fetched
        if "outputs/" in url
    ]
    assert len(shown) > 4 and [url for url in shown if not (site / "notebooks" / url).is_file()] == []


def test_nothing_is_fetched_from_elsewhere(site: Path, pages: dict[str, Page]) -> None:
    fetched = {url for page in pages.values() for url in page.fetched}
    assert any(url.endswith(".js") for url in fetched) and any(url.endswith(".png") for url in fetched)
    assert [url for url in fetched if re.match(r"(\w+:)?//", url)] == []
    styles = [path.read_text("utf-8") for path in site.rglob("*.css")]
    assert styles and not any(re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", style) for style in styles)


def test_no_markup_shows_as_text(pages: dict[str, Page]) -> None:
    found = [(name, text) for name, page in pages.items() for text in page.paragraphs if RAW.search(text.strip())]
    assert found == []
    assert [(name, tag) for name, page in pages.items() for tag in page.tags if not TAGS.fullmatch(tag)] == []


def test_broken_links_fail_the_build(tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    broken = ["nowhere.md", "#here", "index.md#there", "/index.md"]
    (tmp_path / "pages" / "index.md").write_text("# Title\n\n" + "\n\n".join(f"[link]({each})" for each in broken))
    config = tmp_path / "mkdocs.yml"
    config.write_text(f"INHERIT: {REPOSITORY / 'mkdocs.yml'}\ndocs_dir: pages\nnav: []\nhooks: []\nplugins: []\n")
    done = build(tmp_path / "out", config)
    assert done.returncode == 1
    assert sorted(re.findall(r"^WARNING .* link '(\S+)'", done.stderr, re.MULTILINE)) == sorted(broken)
