"""What scripts of MindSpore Federated catch: ``RuntimeError``, in the words of the real wheel 0.1.0.

``golden/refusals.json`` was recorded from that wheel with ``refusal_cases.py``.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from refusal_cases import cases, outcome

from mindfl.compat.mindspore_federated import FeatureMap, FlSchedulerJob, FLServerJob, SSLConfig
from mindfl.errors import MindflError, OptionError

PACKAGE = "mindfl.compat.mindspore_federated"
GOLDEN = Path(__file__).parents[1] / "golden" / "refusals.json"
RECORDED = json.loads(GOLDEN.read_text())
#: cases in which MindSpore, or Python, has its say: the class is the same
OTHER_WORDS = ("run('no.ckpt')", "run('no.mindir')", "run({3: np.zeros(3, np.float32)})")


@pytest.mark.parametrize("case", cases())
def test_what_the_real_one_refuses_is_refused_as_it_does(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = outcome(PACKAGE, *cases()[case])
    if RECORDED[case] is None:
        assert found is None
        return
    *classes, text = RECORDED[case]
    assert found is not None and classes[0] in found
    if "TypeError" in classes:
        # Later versions of Python put the class before the name of the method.
        assert case in OTHER_WORDS or found[-1].endswith(text)
    elif case not in OTHER_WORDS:
        assert found[-1].startswith(text), "further problems may follow the first"


def test_a_refusal_is_an_error_of_mindfl_with_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("fl.yaml").write_text(cases()["fl_name: missing"][0])
    with pytest.raises(RuntimeError, match=r"^The parameter 'fl_name' is missing") as caught:
        FLServerJob("fl.yaml", "127.0.0.1:0")
    assert isinstance(caught.value, MindflError)
    assert (caught.value.code, caught.value.hint) == ("E-OPTION", "correct the settings file or the options")


@pytest.mark.parametrize(
    ("call", "wrong", "right"),
    [
        (FLServerJob, "http_server_adress", "http_server_address"),
        (FlSchedulerJob, "manage_adress", "manage_address"),
        (SSLConfig, "server_pasword", "server_password"),
        (FeatureMap().add_feature, "require_agg", "require_aggr"),
        (partial(FLServerJob.run, None), "call_back", "callback"),
    ],
)
def test_an_unknown_keyword_is_a_type_error_with_a_suggestion(
    call: Callable[..., object], wrong: str, right: str
) -> None:
    with pytest.raises(RuntimeError, match=rf"\(\) got an unexpected keyword argument '{wrong}'$") as caught:
        call(**{wrong: "x"})
    assert isinstance(caught.value, TypeError) and isinstance(caught.value, OptionError)
    assert caught.value.hint == f"did you mean {right}?"


@pytest.mark.parametrize("line", ["server_mode: HYBRID_TRAINING", "client_verify: {pki_verify: true}", "nonsense: 1"])
def test_what_only_mindfl_refuses_is_a_runtime_error_too(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    usual = cases()["m.FLServerJob()"][0].splitlines()
    key = line.partition(":")[0]
    Path("fl.yaml").write_text("\n".join([*(each for each in usual if not each.startswith(key)), line]))
    with pytest.raises(RuntimeError, match=key):
        FLServerJob("fl.yaml", "127.0.0.1:0")


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:99999", "127.0.0.1:", "127.0.0.1:abc"])
def test_an_address_of_another_form_is_refused_when_the_job_runs(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the real one does, once it has its Redis."""
    text = f"The format of http server address '{address}' is invalid"
    monkeypatch.chdir(tmp_path)
    Path("fl.yaml").write_text(cases()["m.FLServerJob()"][0])
    code = f"m.FLServerJob('fl.yaml', {address!r}, checkpoint_dir='no').run(w)"
    assert outcome(PACKAGE, cases()["m.FLServerJob()"][0], code) == ["RuntimeError", text]


@pytest.mark.real_server
def test_the_recorded_words_are_those_of_the_real_wheel(real_interpreter: Path, tmp_path: Path) -> None:
    script = Path(__file__).with_name("refusal_cases.py")
    done = subprocess.run(
        [real_interpreter, script, "mindspore_federated"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert json.loads(done.stdout) == RECORDED
