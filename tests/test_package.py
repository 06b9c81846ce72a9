"""The public interface."""

from __future__ import annotations

import importlib
import re
from collections import Counter
from pathlib import Path

import pytest

import mindfl


def test_names_are_sorted_few_and_those_of_the_lazy_table() -> None:
    assert mindfl.__all__ == sorted(mindfl.__all__)
    assert len(mindfl.__all__) <= 40
    assert set(mindfl.__all__) == {*mindfl._HOMES, "__version__"}
    assert set(mindfl.__all__) <= set(dir(mindfl))


@pytest.mark.parametrize("name", mindfl.__all__)
def test_every_name_is_there_and_documented(name: str) -> None:
    value = getattr(mindfl, name)
    if name in mindfl._HOMES:
        assert value is getattr(importlib.import_module(mindfl._HOMES[name]), name)
        assert value.__doc__


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'mindfl' has no attribute 'nonsense'"):
        mindfl.nonsense  # noqa: B018


@pytest.mark.parametrize(
    "package",
    [
        "algorithms",
        "client",
        "compare",
        "convert",
        "data",
        "export",
        "lite",
        "models",
        "protocol",
        "real",
        "server",
        "sim",
        "tracking",
    ],
)
def test_every_package_lists_names_it_has(package: str) -> None:
    module = importlib.import_module(f"mindfl.{package}")
    assert len(set(module.__all__)) == len(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)


def test_module_names_stand_once() -> None:
    root = Path(mindfl.__file__).parent
    files = [file.relative_to(root) for file in root.rglob("*.py")]
    packages = {file.parent.name for file in files if file.name == "__init__.py"}
    names = Counter(file.stem for file in files if file.name != "__init__.py" and file.parts[0] != "cli")
    assert {name for name, count in names.items() if count > 1 or name in packages} == set()


def test_class_names_stand_once() -> None:
    root = Path(mindfl.__file__).parent
    texts = [file.read_text(encoding="utf-8") for file in root.rglob("*.py")]
    names = Counter(name for text in texts for name in re.findall(r"^class (\w+)", text, re.MULTILINE))
    # MindSpore Federated's name, in the interface that copies its own
    assert {name for name, count in names.items() if count > 1} == {"Callback"}
