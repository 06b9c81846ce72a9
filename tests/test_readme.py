"""README: its Python examples run as they are printed; the Chinese one has the same headings, code and figures."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
_README = ROOT / "README.md"


#: what the README says of its second example, as a job
GIVEN = """from mindfl import FederatedJob
FederatedJob(work_dir="fedprox", client_num=10, iterations=1, epochs=1, algorithm=FedProx(0.1)).run()"""


def code(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def save_arrays() -> None:
    """Write small ``images.npy`` and ``labels.npy``: a bright stripe, whose height is the class."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 5, 200)
    images = rng.integers(0, 100, (200, 28, 28), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 + 5 * label : 6 + 5 * label] += 100
    np.save("images.npy", images)
    np.save("labels.npy", labels)


def test_python_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compared, own = code(_README.read_text("utf-8"), "python")
    monkeypatch.chdir(tmp_path)
    save_arrays()
    exec(compile(compared, str(_README), "exec"), {})
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")
    exec(compile(f"{own}\n{GIVEN}", str(_README), "exec"), {"__name__": "readme"})
    assert "readme:FedProx" in (tmp_path / "fedprox" / "config.json").read_text()


WORDS = {9: "Nine", 10: "Ten", 11: "Eleven"}
#: name in a Chinese page -> the English page's
ENGLISH = {"README_CN.md": "README.md", "docs/tutorial.zh.md": "docs/tutorial.md", "docs/zh-CN": "docs/en"}


def test_the_chinese_readme_has_the_same_headings_code_links_and_figures() -> None:
    english, chinese = (read_as_english(ROOT / name) for name in ("README.md", "README_CN.md"))
    assert len(levels(english)) > 5 and levels(english) == levels(chinese)
    for language in ("sh", "python"):
        expected, found = ([without_comments(each) for each in code(text, language)] for text in (english, chinese))
        assert expected and expected == found
    # Packages and their purposes are listed once, in English.
    assert links(english) == links(chinese) - {"README.md#dependencies"}
    assert figures(english) == figures(chinese)


def read_as_english(page: Path) -> str:
    text = page.read_text("utf-8")
    for chinese, english in ENGLISH.items():
        text = text.replace(chinese, english)
    return text


def levels(text: str) -> list[int]:
    return [len(marks) for marks in re.findall(r"^(#+) ", text, re.MULTILINE)]


def without_comments(block: str) -> str:
    return re.sub(r" +#.*", "", block)


def links(text: str) -> set[str]:
    return set(re.findall(r"\]\(([^)]+)\)", text))


def figures(text: str) -> set[str]:
    """Return the numbers of three characters or more, as they are written."""
    return set(re.findall(r"\d[\d,.]*\d\d|\d+\.\d+|\d{3,}", text))


def test_the_citation_file_names_software_version_and_licence() -> None:
    import yaml

    from mindfl import __version__

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    required = {"cff-version", "message", "authors", "title"}  # https://github.com/citation-file-format
    assert required <= citation.keys() and citation["cff-version"] == "1.2.0"
    assert citation["license"] == "Apache-2.0" and __version__.startswith(citation["version"])


def test_what_the_readme_counts_is_as_many() -> None:
    from mindfl.algorithms.naming import BASELINES, REGISTERED
    from mindfl.models import MODELS

    text = _README.read_text("utf-8")
    algorithms = len(REGISTERED.keys() - BASELINES.keys())
    operators = re.search(r"has (\d+) of these (\d+)", (ROOT / "docs" / "operators.md").read_text("utf-8"))
    assert operators is not None
    assert f"**{algorithms} federated algorithms**" in text and f"SCAFFOLD and {algorithms - 3} more" in text
    assert f"{operators[1]} of MindSpore Lite's {operators[2]} [training" in text
    assert f"[{WORDS[len(MODELS)]} networks]" in text


def test_each_dependency_stands_in_the_table() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", "utf-8")
    required = settings.get("options", "install_requires", raw=True) + "".join(
        value for extra, value in settings.items("options.extras_require", raw=True)
    )
    text = _README.read_text("utf-8").partition("## Dependencies")[2].partition("\n## ")[0]
    packages = set(re.findall(r"^\s*([\w-]+)", required, re.MULTILINE)) | {*settings["options.extras_require"]}
    assert len(packages) > 30
    assert [name for name in packages if name.lower() not in re.findall(r"[\w-]+", text.lower())] == []
