"""Users' own classes are found by name, and every failure names the option."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from mindfl.errors import OptionError
from mindfl.extensions import absolute, find_object, is_reference, load_object, make_object

_MODULE = """
class Sampler:
    def __init__(self, rate=0.5, name="x"):
        self.rate, self.name = rate, name
    def __eq__(self, other):
        return vars(self) == vars(other)

chosen = Sampler(0.25)
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "own file ü.py"
    path.write_text(_MODULE, "utf-8")
    return path


def test_registered_names_take_settings() -> None:
    made = make_object("path:name=a", {"path": lambda name: name}, "mindfl.none", "sampler")
    assert made == "a"


def test_values_are_numbers_truth_values_and_texts() -> None:
    _, settings = find_object("x:a=1,b=2.5,c=true,d=False,e=1e-3,f=text", {"x": object}, "mindfl.none", "sampler")
    assert settings == {"a": 1, "b": 2.5, "c": True, "d": False, "e": 0.001, "f": "text"}


def test_a_file_with_settings(module: Path) -> None:
    made = make_object(f"{module}:Sampler:rate=0.1,name=own", {}, "mindfl.none", "sampler")
    assert (made.rate, made.name) == (0.1, "own")


def test_an_object_is_taken_as_it_is(module: Path) -> None:
    assert make_object(f"{module}:chosen", {}, "mindfl.none", "sampler").rate == 0.25


def test_a_file_is_loaded_once_and_its_objects_can_be_pickled(module: Path) -> None:
    made = make_object(f"{module}:Sampler", {}, "mindfl.none", "sampler")
    assert load_object(f"{module}:Sampler", "sampler") is type(made)
    assert pickle.loads(pickle.dumps(made)) == made


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ordred", "did you mean ordered?"),
        ("no_such_module_anywhere:Thing", "cannot import no_such_module_anywhere"),
        ("/nowhere/x.py:Thing", "no file /nowhere/x.py"),
        ("ordered:rate", "not key=value|cannot import ordered"),
        ("ordered:no such=1", "not key=value"),
        ("math:", "not module:attribute"),
        (":pi", "not module:attribute"),
        ("math:pie", "did you mean pi?"),
    ],
)
def test_what_cannot_be_found_is_refused_by_option(text: str, words: str) -> None:
    with pytest.raises(OptionError) as refused:
        make_object(text, {"ordered": sorted}, "mindfl.none", "sampler")
    message = f"{refused.value} {refused.value.hint}"
    assert "sampler" in message
    assert any(word in message for word in words.split("|"))


def test_settings_that_are_not_taken_are_refused(module: Path) -> None:
    with pytest.raises(OptionError, match=r"sampler .* has no setting rat"):
        make_object(f"{module}:Sampler:rat=0.1", {}, "mindfl.none", "sampler")


def test_an_object_takes_no_settings(module: Path) -> None:
    with pytest.raises(OptionError, match=r"sampler .*chosen:rate=0\.1: it is an object already"):
        make_object(f"{module}:chosen:rate=0.1", {}, "mindfl.none", "sampler")


def test_a_file_that_fails_is_named_with_its_error(tmp_path: Path) -> None:
    path: Callable[[str], Path] = tmp_path.joinpath
    path("broken.py").write_text("1 / 0")
    with pytest.raises(OptionError, match=r"broken\.py cannot be loaded: ZeroDivisionError"):
        load_object(f"{path('broken.py')}:x", "model")
    path("broken.py").write_text("x = 1")  # as long, and perhaps in the same second
    assert load_object(f"{path('broken.py')}:x", "model") == 1
    assert not path("__pycache__").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nets.py:Net", True),
        ("/a folder/nets.py:Net.small", True),
        ("pkg.nets:Net:width=8,deep=true", True),
        ("lenet", False),
        ("fedprox:mu=0.1", False),
        ("run/data", False),
        ("nets.py:", False),
        (":Net", False),
        (Path("nets.py:Net"), False),
    ],
)
def test_what_refers_to_an_object(text: object, expected: bool) -> None:
    assert is_reference(text) is expected


def test_a_file_of_that_name_is_no_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data:v1").touch()
    assert not is_reference("data:v1") and is_reference("data:v2")
    assert absolute("nets.py:Net:width=8") == f"{tmp_path}/nets.py:Net:width=8"
    assert absolute("pkg.nets:Net") == "pkg.nets:Net"
