from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mindfl.convert import mindir
from mindfl.convert.mindir import Proto, check_graph, operators, optimizer_states, parameters, parse_mindir, read_mindir
from mindfl.convert.rewrite import rewrite
from mindfl.errors import MindirError


def test_reads_parameters_and_optimizer_states(model: Proto) -> None:
    values = parameters(model)
    assert values["conv1.weight"].shape == (6, 3, 5, 5)
    assert values["conv1.weight"].dtype == np.float32
    assert values["learning_rate"] == np.float32(0.01)
    states = optimizer_states(model)
    assert len(states) == 8
    assert states["fc2.bias"] == ("moments.fc2.bias",)
    assert "ApplyMomentum" in operators(model).values()


BAD_FILES = {
    "empty": lambda good: b"",
    "text": lambda good: b"this is not a model\n" * 50,
    "random bytes": lambda good: np.random.default_rng(0).bytes(20_000),
    "cut at 3 kB": lambda good: good[:3_000],
    "cut at 300 kB": lambda good: good[:300_000],
    "cut at the last byte": lambda good: good[:-1],
    "zeros": lambda good: bytes(1000),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_file_is_one_line_with_its_name(kind: str, tmp_path: Path, exported: Callable[..., Path]) -> None:
    file = tmp_path / "bad file.mindir"
    file.write_bytes(BAD_FILES[kind](exported().read_bytes()))
    with pytest.raises(MindirError, match=r"bad file\.mindir is") as caught:
        read_mindir(file)
    assert "\n" not in caught.value.line()


def test_missing_folder_and_pipe(tmp_path: Path) -> None:
    with pytest.raises(MindirError, match="No such file"):
        read_mindir(tmp_path / "none.mindir")
    with pytest.raises(MindirError, match="not a regular file"):
        read_mindir(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(MindirError, match="not a regular file"):
        read_mindir(tmp_path / "pipe")


def test_damaged_graphs_are_named(model: Proto, tmp_path: Path) -> None:
    def error_after(change: Callable[[Proto], object]) -> str:
        changed = type(model)()
        changed.CopyFrom(model)
        change(changed)
        (tmp_path / "damaged").write_bytes(changed.SerializeToString())
        with pytest.raises(MindirError) as caught:
            read_mindir(tmp_path / "damaged")
        return str(caught.value)

    assert "which is not defined" in error_after(lambda it: it.graph.node[3].input.append("nobody"))
    assert "has no output" in error_after(lambda it: it.graph.node[3].ClearField("output"))
    assert "parameter conv1.weight has 7 bytes" in error_after(
        lambda it: setattr(it.graph.parameter[0], "raw_data", b"1234567")
    )
    constant = {"op_type": "Constant", "output": ["value"]}
    assert "has no output" in error_after(lambda it: it.graph.node.add(**constant))
    assert "no graph" in error_after(lambda it: it.ClearField("graph"))


def test_missing_mindspore_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mindir.importlib.util, "find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "mindspore.train.mind_ir_pb2", raising=False)
    with pytest.raises(MindirError, match="MindSpore is not installed"):
        mindir.mindir_protocol.__wrapped__()


@pytest.mark.parametrize("order", ["first", "last"])
def test_reading_does_not_import_mindspore_and_goes_with_it(order: str, exported: Callable[..., Path]) -> None:
    read = (
        f"from mindfl.convert.mindir import read_mindir; model = read_mindir({str(exported())!r});"
        "print(len(model.graph.parameter));"
    )
    mindspore = "import mindspore;"
    code = "import sys;"
    code += mindspore + read if order == "last" else read + "assert 'mindspore' not in sys.modules;" + mindspore
    environment = {**os.environ, "GLOG_v": "3"}
    outcome = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (outcome.returncode, outcome.stdout.strip()) == (0, "19"), outcome.stderr


@pytest.fixture(scope="session")
def small_graph(exported: Callable[..., Path]) -> Callable[[], bytes]:
    """Return a function that returns LeNet's training graph with empty parameters, so that damage hits the graph."""
    model = read_mindir(exported())
    for tensor in model.graph.parameter:
        tensor.dims[:] = [0]
        tensor.raw_data = b""
    content = bytes(model.SerializeToString())
    return lambda: content


def test_text_that_is_not_utf8_is_damage(small_graph: Callable[[], bytes]) -> None:
    content = small_graph()
    assert b"MatMul" in content
    with pytest.raises(MindirError, match=r"UTF-8|cut off"):
        parse_mindir(content.replace(b"MatMul", b"Mat\xfful"), "damaged")


@settings(max_examples=100, deadline=None)
@given(flips=st.lists(st.tuples(st.integers(0, 2**31), st.integers(0, 255)), min_size=1, max_size=8))
def test_no_damage_gives_anything_but_a_mindir_error(
    flips: list[tuple[int, int]], small_graph: Callable[[], bytes]
) -> None:
    content = bytearray(small_graph())
    for place, value in flips:
        content[place % len(content)] = value
    try:
        parsed = parse_mindir(bytes(content), "fuzz")
        mindir.check_graph(parsed, "fuzz")
        rewrite(parsed)
    except MindirError as error:
        assert "\n" not in error.line()


#: changes of a node, or of the list it is in
MUTATIONS: dict[str, Callable[[Proto, Proto, int], object]] = {
    "drop node": lambda model, node, place: model.graph.node.remove(node),
    "drop primitive": lambda model, node, place: model.primitives.pop(place % len(model.primitives)),
    "drop parameter": lambda model, node, place: model.graph.parameter.pop(place % len(model.graph.parameter)),
    "drop input": lambda model, node, place: node.input.__delitem__(slice(-1, None)),
    "clear inputs": lambda model, node, place: node.ClearField("input"),
    "clear outputs": lambda model, node, place: node.ClearField("output"),
    "clear attributes": lambda model, node, place: node.ClearField("attribute"),
    "other operator": lambda model, node, place: setattr(node, "op_type", f"REF::{model.primitives[0].name}"),
    "rewire": lambda model, node, place: node.input.append("ValueNode_46"),
}


@settings(max_examples=100, deadline=None)
@given(changes=st.lists(st.tuples(st.sampled_from(sorted(MUTATIONS)), st.integers(0, 200)), min_size=1, max_size=4))
@example(changes=[("clear inputs", 48)])
@example(changes=[("clear inputs", 21)])
def test_no_broken_graph_gives_anything_but_a_mindir_error(
    changes: list[tuple[str, int]], small_graph: Callable[[], bytes]
) -> None:
    model = parse_mindir(small_graph(), "fuzz")
    for name, place in changes:
        MUTATIONS[name](model, model.graph.node[place % len(model.graph.node)], place)
    try:
        mindir.check_graph(model, "fuzz")
        rewrite(model)
    except MindirError as error:
        assert "\n" not in error.line()


@pytest.mark.parametrize("change", [lambda data: b"", lambda data: data[:-1], lambda data: data + b"\0"])
@pytest.mark.parametrize("separate", [False, True])
def test_a_parameter_that_is_not_whole_is_named(change: Callable[[bytes], bytes], separate: bool, model: Proto) -> None:
    check_graph(model, "it")
    tensor = model.graph.parameter[0]
    whole = len(tensor.raw_data)
    tensor.raw_data = change(tensor.raw_data)
    if separate:
        tensor.external_data.SetInParent()
    with pytest.raises(MindirError, match=rf"it is damaged: parameter .* has \d+ bytes, not {whole}") as caught:
        check_graph(model, "it")
    assert bool(caught.value.hint) == separate
