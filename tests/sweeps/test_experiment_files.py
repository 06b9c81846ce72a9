"""Experiment files: what they say, their runs, and every mistake with its line."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mindfl.cli import root
from mindfl.errors import OptionError
from mindfl.options import options_of
from mindfl.options.job_options import JobOptions
from mindfl.sweeps import read_experiment
from mindfl.sweeps.children import arguments_of
from mindfl.sweeps.experiment_file import _toml_lines
from mindfl.sweeps.template import template_text

TOML = """
iterations = 3   # a comment with "quotes = [
"client-num" = 4
train_data_dir = '''
writers'''

[sweep]
algorithm = [
  "fedavg", # one = 1
  "fedprox:mu=0.1",
]
seed = [0, 1]
"""
YAML = """
iterations: 3
client-num: 4
train_data_dir: writers

sweep:
  algorithm: [fedavg, "fedprox:mu=0.1"]
  seed:
    - 0
    - 1
"""


def written(folder: Path, text: str, name: str = "exp.toml") -> Path:
    (folder / name).write_text(text, "utf-8")
    return folder / name


@pytest.mark.parametrize(("name", "text"), [("exp.toml", TOML), ("exp.yaml", YAML)])
def test_a_file_says_settings_and_runs(tmp_path: Path, name: str, text: str) -> None:
    found = read_experiment(written(tmp_path, text, name))
    base = {"iterations": 3, "client_num": 4, "train_dataset": str(tmp_path / "writers")}
    assert found.settings == base
    assert {run.name: run.settings for run in found.runs} == {
        f"algorithm={algorithm.replace(':', '_')},seed={seed}": {**base, "algorithm": algorithm, "seed": seed}
        for algorithm in ("fedavg", "fedprox:mu=0.1")
        for seed in (0, 1)
    }
    assert [run.varies["seed"] for run in found.runs] == [0, 1, 0, 1]


def test_several_grids_and_a_dictionary_are_put_together() -> None:
    grids = [{"seed": [0, 1]}, {"algorithm": ["fedadam"], "seed": [0]}]
    runs = read_experiment({"epochs": 2, "sweep": grids}).runs
    assert [run.name for run in runs] == ["seed=0", "seed=1", "seed=0,algorithm=fedadam"]
    assert [run.varies["algorithm"] for run in runs] == ["fedavg", "fedavg", "fedadam"]
    with pytest.raises(OptionError, match=r"sweep\.1\.seed: the run seed=1 is there twice"):
        read_experiment({"sweep": [grids[0], {"seed": [1]}]})


CASES = {
    "exp.toml": """
[[sweep]]
seed = [0]
[[sweep]]
seed = [0, 1]
[sweep.mode]
plain = {}
noise = { encrypt_type = "DP_ENCRYPT", dp_eps = 5.0 }
[sweep.mode."few ä"]
client-num = 3
""",
    "exp.yaml": """
sweep:
  - seed: [0]
  - seed: [0, 1]
    mode:
      plain: {}
      noise: {encrypt_type: DP_ENCRYPT, dp_eps: 5.0}
      few ä:
        client-num: 3
""",
}


@pytest.mark.parametrize("name", CASES)
def test_cases_set_options_together(tmp_path: Path, name: str) -> None:
    text = CASES[name].replace("plain: {}", "plain: {epochs: 1}").replace("plain = {}", "plain = { epochs = 1 }")
    runs = {run.name: run for run in read_experiment(written(tmp_path, text, name)).runs}
    assert list(runs)[:4] == ["seed=0", "seed=0,mode=plain", "seed=0,mode=noise", "seed=0,mode=few_ä"]
    assert runs["seed=1,mode=noise"].settings == {"seed": 1, "encrypt_type": "DP_ENCRYPT", "dp_eps": 5.0}
    assert runs["seed=0,mode=few_ä"].varies == {"seed": 0, "mode": "few ä"} and runs["seed=0"].varies["mode"] is None
    lines = {option: line.rpartition(":")[2] for option, line in runs["seed=1,mode=few_ä"].places.items()}
    last = str(text.rstrip().count("\n") + 1)
    assert lines["client_num"] == last
    with pytest.raises(OptionError, match=rf"{name}:\d+: the run seed=0,mode=plain is the same as seed=0"):
        read_experiment(written(tmp_path, CASES[name], name))
    with pytest.raises(OptionError, match=rf"{name}:{last}: client_num must be a whole number"):
        read_experiment(written(tmp_path, text.replace("num = 3", "num = 0").replace("num: 3", "num: 0"), name))


@pytest.mark.parametrize(
    ("text", "line", "fault"),
    [
        ("'' = 1", 1, "there is no option ''"),
        ("[sweep.'']\na = { seed = 1 }", 2, "cases have a name"),
        ("[sweep.mode]", 1, "mode has no cases: a case is a name and its options"),
        ("[sweep.mode]\nplain = 3", 2, "plain of mode is 3: a case is a name"),
        ("[sweep.mode]\nplain = { work_dir = 'a' }", 2, "work_dir does not stand here"),
        ("[sweep.seed]\nplain = { epochs = 1 }", 2, "seed is an option: its values are a list"),
        ("[sweep]\nseed = [1]\n[sweep.mode]\na = { seed = 1 }", 4, "seed is set by seed and by mode"),
        ("[sweep.mode]\na = { epochs = { b = 1 } }", 2, "epochs must be a whole number"),
        ("clint_num = 4", 1, r"there is no option 'clint_num' \(did you mean client_num\?\)"),
        ("\n\niterations = 0", 3, "iterations must be a whole number of at least 1, got 0"),
        ("epochs = [1, 2]", 1, r"epochs takes one value, got a list: lists stand in \[sweep\]"),
        ("seed = 1.5", 1, "seed must be a whole number of at least 0, got 1.5"),
        ("evaluate = 'al'", 1, r"evaluate must be one of .*\(did you mean all\?\)"),
        ("model = 3", 1, "model must be a text, such as file.py:NAME, got 3"),
        ("resume = true", 1, "resume does not stand here"),
        ("seed = 1\nlive-port = 80", 2, "live-port does not stand here: a call decides that"),
        ("epochs = 1\nepochs = 2", 2, "not valid TOML"),
        ("epochs = 1\n\n[other]\nx = 1", 3, r"other is a table: the only one is \[sweep\]"),
        ("sweep = 3", 1, "sweep must be a table"),
        ("[sweep]", 1, r"\[sweep\] has no lists"),
        ("[sweep]\nseed = []", 2, "seed is an empty list"),
        ("[sweep]\nseed = 3", 2, "seed must be a list here, got 3"),
        ("[sweep.size]\n' ' = {epochs = 1}", 2, "a case of size has no name"),
        (
            "[sweep]\nalgorithm = ['fedprox', 'fedprox:mu=.1']",
            2,
            "algorithm=fedprox:mu=.1 is the same as algorithm=fedprox",
        ),
        ("[[sweep]]\nseed = [0]\n[[sweep]]\nalgorithm = ['fedavg']", 4, "algorithm=fedavg is the same as seed=0"),
        ("[sweep]\nlearning_rate = [1, 1.0]", 2, "learning_rate=1.0 is the same as learning_rate=1"),
        ("\nsweep = []", 2, "sweep has no tables"),
        ("\nepochs.x = 1\nepochs.y = 1", 2, "epochs is a table"),
        ("[sweep]\nseed = [{a = 1}]", 2, "seed must be a whole number"),
        ("[sweep]\nseed = [1,\n1]", 2, "the run seed=1 is there twice"),
        ("[sweep]\nseed = [1]\nwork_dir = ['a']", 3, "work_dir does not stand here: each run has a folder"),
        ("train_model_path = 'ms'\n[sweep]\nseed = [1]", 1, "train_model_path does not stand here"),
        ("[[sweep]]\nseed = [1]\n[[sweep]]\n\nseed = ['x']", 5, "seed must be a whole number"),
        ("a = " + "[" * 30_000 + "]" * 30_000, None, "nests too deeply"),
        ("seed = " + "1" * 5000, None, "not valid TOML"),
        ("epochs = '\xff", 1, "not valid TOML"),
    ],
)
def test_every_mistake_is_named_with_its_line(tmp_path: Path, text: str, line: int | None, fault: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(OptionError, match=fault) as caught:
        read_experiment(path)
    if line is not None:
        assert str(caught.value).startswith(f"{path}:{line}: ")


def test_words_that_yaml_takes_for_truth_values(tmp_path: Path) -> None:
    text = """
        encrypt_type: no
        client_num: on
        tensorboard: yes
        fl_name: "off"
        sweep:
          algorithm: [fedavg, Off]
          shuffle: [yes, no]
    """
    with pytest.raises(OptionError) as caught:
        read_experiment(written(tmp_path, textwrap.dedent(text), "words.yaml"))
    for line, words in (
        (2, 'encrypt_type: YAML takes no without quotes for false: write "no"'),
        (3, "client_num must be a whole number of at least 1, got True"),
        (7, 'algorithm: YAML takes Off without quotes for false: write "Off"'),
    ):
        assert f"words.yaml:{line}: {words}" in str(caught.value)
    assert "tensorboard" not in str(caught.value) and "fl_name" not in str(caught.value)
    runs = read_experiment(written(tmp_path, "sweep: {shuffle: [yes, no]}", "truths.yaml")).runs
    assert [(run.name, run.settings) for run in runs] == [
        ("shuffle=true", {"shuffle": True}),
        ("shuffle=false", {"shuffle": False}),
    ]


def test_mistakes_in_yaml_and_several_at_once(tmp_path: Path) -> None:
    text = "seed: [0]\nepochs: {a: 1}\nlearning_rate: 1e-3\nsweep:\n  - seed: [0]\n  - 3\n"
    path = written(tmp_path, text, "exp.yml")
    with pytest.raises(OptionError) as caught:
        read_experiment(path)
    lines = str(caught.value).split("; ")
    assert [line.split(": ")[0].removeprefix(str(path)) for line in lines] == [":4", ":2", ":1"]
    with pytest.raises(OptionError, match=r":1: 010 is another number in YAML.*:2: 1:30 is another number") as caught:
        read_experiment(written(tmp_path, "seed: 010\nclient_num: 1:30\nepochs: 10", "odd.yaml"))
    assert "None" not in str(caught.value), "what cannot be read has one message"
    with pytest.raises(OptionError) as caught:
        read_experiment(written(tmp_path, "seed: [[[1]], [[2]], [[3]]]", "deep.yaml"))
    assert str(caught.value).count("deep.yaml:1") == 1
    assert read_experiment(written(tmp_path, "learning_rate: 1e-3", "rate.yaml")).settings == {"learning_rate": 0.001}


def test_what_is_no_text_or_too_long_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "exp.toml"
    path.write_bytes(b"seed = 1\nmodel = '\xff'")
    with pytest.raises(OptionError, match=r"exp.toml:2: not UTF-8"):
        read_experiment(path)
    path.write_bytes(b"#" * 100_000)
    with pytest.raises(OptionError, match="longer than 64 KiB"):
        read_experiment(path)
    with pytest.raises(OptionError, match=r"sweep.seed: \[sweep\] makes 1000000 runs"):
        read_experiment({"sweep": {"seed": list(range(1000)), "epochs": list(range(1, 1001))}})


TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=8)
KEYS = st.text("abc_-1", min_size=1, max_size=4)
VALUES = st.one_of(st.integers(-9, 9), st.booleans(), TEXTS.map(lambda text: f"'''\\n{text.replace(chr(39), '')}'''"))


@settings(max_examples=30)
@given(st.dictionaries(KEYS, st.tuples(st.lists(VALUES, max_size=3), st.booleans()), max_size=5))
def test_lines_of_toml_are_those_of_the_keys(entries: dict[str, tuple[list[Any], bool]]) -> None:
    text, expected = "# first\n", {}
    for key, (values, several) in entries.items():
        expected[key,] = text.count("\n") + 1
        items = [str(value).lower() if isinstance(value, bool) else str(value) for value in values]
        text += f"{key} = [" + ("\n, # no = 1\n" if several else ", ").join(items) + "]\n"
    assert dict(_toml_lines(text)) == expected


@settings(max_examples=30)
@given(st.lists(TEXTS.filter(str.strip), min_size=2, max_size=6, unique=True))
def test_names_are_those_of_folders_and_differ(labels: list[str]) -> None:
    names = [run.name for run in read_experiment({"sweep": {"fl_name": labels}}).runs]
    assert len(set(names)) == len(labels)
    assert all(len(name.encode()) <= 160 and "/" not in name and not name.startswith(".") for name in names)


def test_long_names_are_cut_between_letters() -> None:
    names = [run.name for run in read_experiment({"sweep": {"fl_name": ["ä" * 500, "ä" * 501, "x"]}}).runs]
    assert len(set(names)) == 3 and all(len(name.encode()) < 140 for name in names)


def test_the_template_is_a_file_with_every_option_and_its_default(tmp_path: Path) -> None:
    text = template_text()
    assert not re.search(r"^# ---- .* ----\n\n# ----", text, re.M), "no group is empty"
    assert read_experiment(written(tmp_path, text)).settings == {"client_num": 10, "iterations": 20}
    options = text.partition("# ---- Many")[0]
    lines = {name: line for line, name in re.findall(r"^# ((\w+) = .*)$", options, re.M)}
    assert lines.keys() == options_of(JobOptions).keys() - {"resume", "overwrite"}
    numbers = [option for option in options_of(JobOptions).values() if option.kind in (int, float, bool)]
    active = "\n".join(lines[option.name] for option in numbers if option.name in lines)
    found = read_experiment(written(tmp_path, active)).settings
    known = {option.name: option.default for option in numbers if option.default is not None}
    assert {name: value for name, value in found.items() if name in known} == {
        name: value for name, value in known.items() if name in lines
    }


def test_settings_become_options_of_simulate() -> None:
    from mindfl.cli.simulate import simulate_command

    settings = {
        "seed": 3,
        "shuffle": True,
        "per_client_models": False,
        "use_elb": True,
        "callbacks": ["a.py:B", "c:d"],
        "train_dataset": "-x y=ü",
        "learning_rate": 1e-05,
        "momentum": None,
    }
    context = simulate_command.make_context("simulate", arguments_of(settings))
    found = {name: context.params[name] for name in settings}
    assert found == {**settings, "callbacks": ("a.py:B", "c:d")}


def test_both_readers_agree(tmp_path: Path) -> None:
    values = {"client_num": 3, "shuffle": True, "learning_rate": 0.5, "callbacks": ["a:b"], "sweep": {"seed": [1, 2]}}
    as_yaml = read_experiment(written(tmp_path, yaml.safe_dump(values), "a.yaml"))
    text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items() if name != "sweep")
    as_toml = read_experiment(written(tmp_path, f"{text}sweep.seed = [1, 2]\n"))
    assert as_yaml.runs == as_toml.runs == read_experiment(values).runs


def test_run_gives_a_job_what_the_file_and_the_command_line_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def job(**settings: Any) -> None:
        given.update(settings)
        raise OptionError("seen")

    monkeypatch.setattr("mindfl.sim.FederatedJob", job)
    path = written(tmp_path, TOML)
    arguments = ["run", str(path), "--run", "algorithm=fedprox_mu=0.1,seed=1", "--work_dir", "here", "--workers", "1"]
    with pytest.raises(OptionError, match="seen"):
        root.main([*arguments, "--quiet"], standalone_mode=False)
    del given["reporter"]
    assert given == {
        **{"iterations": 3, "client_num": 4, "train_dataset": str(tmp_path / "writers"), "seed": 1},
        **{"algorithm": "fedprox:mu=0.1", "work_dir": "here", "workers": 1},
    }
    for wrong, fault in ((arguments[:2], r"has \[sweep\]: 4 runs"), ([*arguments[:3], "seed=9"], "has no run seed=9")):
        with pytest.raises(OptionError, match=fault):
            root.main(wrong, standalone_mode=False)
    with pytest.raises(OptionError, match="name an experiment file"):
        root.main(["run"], standalone_mode=False)


def test_run_passes_on_what_belongs_to_a_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []

    def context(_name: str, arguments: list[str], **_: object) -> None:
        given.extend(arguments)
        raise OptionError("seen")

    monkeypatch.setattr("mindfl.cli.run.simulate_command.make_context", context)
    path = written(tmp_path, "seed = 1")
    with pytest.raises(OptionError, match="seen"):
        root.main(["run", str(path), "--quiet", "--json", "--live", "--live_port", "8080"], standalone_mode=False)
    assert given == ["--seed=1", "--quiet", "--json", "--live", "--live_port=8080"]
