"""An upload mode of a user's own: updates at a few levels."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from levels import Levels

from mindfl import modes
from mindfl.errors import ClientError, OptionError, ProtocolError
from mindfl.modes import UploadMode, recorded_mode
from mindfl.sim import FederatedLeNetJob, JobConfig

HERE = Path(__file__).parent
BY_NAME = f"{HERE}/levels.py:Levels:levels=7"
JobFactory = Callable[..., FederatedLeNetJob]


@pytest.fixture
def expected(make_job: JobFactory) -> str:
    """The hash of a job with one worker, whose clients call the server directly."""
    return make_job("expected", encrypt_type=BY_NAME, workers=1).run().hash


def test_a_user_writes_at_most_40_lines() -> None:
    text = (HERE / "levels.py").read_text()
    tree = ast.parse(text)
    imports = {node.lineno for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)}
    assert len({number for number, line in enumerate(text.splitlines(), 1) if line.strip()} - imports) <= 40


@pytest.mark.parametrize(
    "settings",
    [{"encrypt_type": Levels(7), "workers": 2}, {"encrypt_type": BY_NAME, "workers": 3, "transport": "http"}],
    ids=["object", "http"],
)
def test_named_or_an_object_over_any_transport(expected: str, make_job: JobFactory, settings: dict[str, Any]) -> None:
    result = make_job(**settings).run()
    assert result.hash == expected
    assert result.title.endswith("3 clients, 7 levels")


def test_it_is_another_result_with_another_seed_or_setting(expected: str, make_job: JobFactory) -> None:
    others = [{"seed": 1}, {"encrypt_type": Levels(15)}, {"encrypt_type": UploadMode()}]
    hashes = {
        make_job(f"run {number}", **{"encrypt_type": BY_NAME, **other}).run().hash
        for number, other in enumerate(others)
    }
    assert len(hashes | {expected}) == 4


def test_a_mode_that_replaces_nothing_gives_the_plain_weights(make_job: JobFactory) -> None:
    assert make_job("own", encrypt_type=UploadMode()).run().hash == make_job("plain").run().hash


def test_it_goes_on_from_its_record(expected: str, make_job: JobFactory) -> None:
    make_job(encrypt_type=Levels(7), iterations=1).run()
    assert make_job(resume=True, iterations=2).run().hash == expected
    record = json.loads((make_job().config.work_dir / "config.json").read_text())
    assert record["settings"]["encrypt_type"].endswith("Levels:levels=7")


def test_other_settings_are_no_continuation(make_job: JobFactory) -> None:
    make_job(encrypt_type=Levels(7), iterations=1).run()
    with pytest.raises(OptionError, match="encrypt_type"):
        make_job(resume=True, iterations=2, encrypt_type=Levels(8)).run()


class Unrecordable(Levels):
    """Its settings are no plain values."""

    def __init__(self) -> None:
        super().__init__(7)
        self.table = np.arange(3)


def test_an_object_that_no_text_makes_is_asked_for(make_job: JobFactory) -> None:
    make_job(encrypt_type=Unrecordable(), iterations=1).run()
    with pytest.raises(OptionError, match=r"Unrecordable .* cannot make again") as caught:
        make_job(resume=True, iterations=2)
    assert "encrypt_type=..." in caught.value.hint


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"stack": "federated"}, "Levels is an upload mode of your own: MindSpore Federated's server"),
        ({"clients": "java", "jar_path": "a.jar", "case_jar_path": "b.jar"}, "Java clients do not know .* Levels"),
    ],
    ids=["real server", "Java"],
)
def test_what_does_not_know_it_is_named(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionError, match=text):
        JobConfig(encrypt_type=BY_NAME, **settings)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (f"{HERE}/levels.py:Level", "did you mean Levels"),
        (f"{HERE}/levels.py:Levels:level=7", "Levels has no setting level"),
        (f"{HERE}/levels.py:np", "is no upload mode"),
        ("DP_ENCRIPT", "did you mean DP_ENCRYPT"),
        (3, "is no upload mode"),
    ],
)
def test_what_is_no_mode_is_refused(given: Any, text: str) -> None:
    with pytest.raises(OptionError) as caught:
        JobConfig(encrypt_type=given)
    assert text in caught.value.line()


def test_an_entry_point_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "installed_levels", sys.modules["levels"])
    point = EntryPoint("levels", "installed_levels:Levels", modes.GROUP)
    monkeypatch.setattr("mindfl.extensions.entry_points", lambda group: [point] * (group == modes.GROUP))
    assert isinstance(modes.mode_of(JobConfig(encrypt_type="levels")), Levels)


class Failing(Levels):
    """Fails as ``how`` says."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def encode(self, trained: Any) -> Any:
        if self.how == "encode":
            raise ZeroDivisionError("by nothing")
        return {"text": np.array(["a"])} if self.how == "pack" else super().encode(trained)

    def decode(self, arrays: Any, model: Any) -> Any:
        if self.how == "decode":
            raise ValueError("not of these")
        return super().decode(arrays, model)


@pytest.mark.parametrize(
    ("how", "kind", "text"),
    [
        ("encode", ClientError, "upload mode Failing failed in encode: ZeroDivisionError: by nothing"),
        ("pack", ClientError, "'text' of an upload has the type <U1"),
        ("decode", ProtocolError, "is not what the job's upload mode sends: ValueError: not of these"),
    ],
)
def test_a_failure_names_the_mode_and_the_client(make_job: JobFactory, how: str, kind: Any, text: str) -> None:
    with pytest.raises(kind, match=r"client .* iteration 1") as caught:
        make_job(encrypt_type=Failing(how)).run()
    assert text in str(caught.value)


def test_a_mode_cannot_take_the_name_of_mindfls() -> None:
    with pytest.raises(OptionError, match="name of mindfl's own SIGNDS"):
        JobConfig(encrypt_type=type("Mine", (UploadMode,), {"name": "SIGNDS"})())


def test_what_is_recorded_makes_it_again() -> None:
    text = recorded_mode(Levels(7))
    made = modes.mode_of(JobConfig(encrypt_type=text))
    assert (type(made).__name__, made.describe()) == ("Levels", "7 levels")
