"""Options whose meaning a model file fixes: taken from it, refused where they contradict it, or said to do nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mindfl.errors import MindflWarning, OptionError
from mindfl.experiments.privacy50 import run_study
from mindfl.lite import LiteModel
from mindfl.lite.ops.optimizer import optimizer_of
from mindfl.sim import FederatedLeNetJob, JobConfig
from mindfl.sim.model_options import own_model, settled

Place = Callable[..., dict[str, Any]]


def with_momentum(source: Path, target: Path, value: float) -> Path:
    """Write a copy of a model file whose optimizer has another momentum."""
    model = LiteModel.load(source)
    content = bytearray(model.content)
    for node in model.optimizer_nodes:
        place = model.tensors[node.inputs[4]].position
        content[place : place + 4] = struct.pack("<f", value)
    target.write_bytes(content)
    return target


@pytest.fixture(params=["origin", "folder", "first client's file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Return a function that gives a job a model of the user's own, in one of the three ways there are."""

    def give(model: Path) -> dict[str, Any]:
        if request.param == "origin":
            return {"origin_train_model_path": model}
        folder = tmp_path / "own"
        folder.mkdir()
        shutil.copy(model, folder / ("lenet_train.ms" if request.param == "folder" else "lenet_train0.ms"))
        return {"train_model_path": folder}

    return give


@pytest.fixture
def job(tmp_path: Path, writers: Path) -> Callable[..., FederatedLeNetJob]:
    def make(**settings: Any) -> FederatedLeNetJob:
        small = {"client_num": 2, "iterations": 1, "epochs": 1, "train_dataset": writers, "work_dir": tmp_path / "run"}
        return FederatedLeNetJob(**{**small, **settings})

    return make


class TestOptimizerOfAFile:
    @pytest.mark.parametrize(("name", "momentum"), [("momentum", 0.9), ("sgd", None), ("adam", None)])
    def test_kinds(self, converted: Callable[..., Path], name: str, momentum: float | None) -> None:
        found = optimizer_of(LiteModel.load(converted(name)))
        assert found is not None
        assert (found.name, found.momentum, found.weight_decay, found.nesterov) == (name, momentum, 0.0, False)

    def test_weight_decay(self, converted: Callable[..., Path]) -> None:
        found = optimizer_of(LiteModel.load(converted("momentum", 62, 3, 32, 0.01)))
        assert found is not None and found.weight_decay == 0.01

    @pytest.mark.parametrize("value", [0.0, 0.1])
    def test_momentum(self, converted: Callable[..., Path], tmp_path: Path, value: float) -> None:
        found = optimizer_of(LiteModel.load(with_momentum(converted(), tmp_path / "a.ms", value)))
        assert found is not None and (found.name, found.momentum) == ("momentum", value)


class TestContradictions:
    @pytest.mark.parametrize(
        ("settings", "message", "hint"),
        [
            ({"optimizer": "sgd"}, "--optimizer is sgd, but .* was exported for momentum", "use --optimizer momentum"),
            ({"optimizer": "adam"}, "--optimizer is adam, but .*lenet.*ms was exported", "use --optimizer momentum"),
            ({"momentum": 0.1}, "--momentum is 0.1, but .* was exported for 0.9", "use --momentum 0.9"),
            ({"momentum": 0}, "--momentum is 0, but .* was exported for 0.9", "use --momentum 0.9"),
            ({"batch_size": 16}, "--batch_size is 16, but .* was exported for 32", "use --batch_size 32"),
        ],
    )
    def test_are_refused(self, job, converted, place: Place, settings: Any, message: str, hint: str) -> None:
        with pytest.raises(OptionError, match=message) as caught:
            job(**place(converted()), **settings)
        assert caught.value.hint == hint

    def test_another_network(self, job, converted, place: Place, tmp_path: Path) -> None:
        renamed = tmp_path / "other.ms"
        renamed.write_bytes(converted().read_bytes().replace(b"fc3.bias", b"fc9.bias"))
        with pytest.raises(OptionError, match=r"--model is lenet, but .* holds another network, with .*fc9\.bias"):
            job(**place(renamed), model="lenet")
        assert job(**place_again(place, renamed)).config.model is None

    def test_another_weight_decay(self, job, converted) -> None:
        decaying = converted("momentum", 62, 3, 32, 0.01)
        with pytest.raises(OptionError, match=r"--weight_decay is 0\.1, but .* was exported for 0\.01") as caught:
            job(origin_train_model_path=decaying, weight_decay=0.1)
        assert caught.value.hint == "use --weight_decay 0.01"
        with pytest.raises(OptionError, match=r"--weight_decay is 0\.1, but .* was exported for 0\.0"):
            job(origin_train_model_path=converted(), weight_decay=0.1)
        assert job(origin_train_model_path=decaying, weight_decay=0.01).config.weight_decay == 0.01
        assert job(origin_train_model_path=decaying, engine="mindspore").config.weight_decay == 0.01
        assert job(origin_train_model_path=converted()).config.weight_decay == 0.0


def place_again(place: Place, model: Path) -> dict[str, Any]:
    """Give the model once more, in the folder that the first call made where it did."""
    try:
        return place(model)
    except FileExistsError:
        return {"origin_train_model_path": model}


class TestDefaults:
    @pytest.mark.parametrize(
        ("name", "rate", "momentum"), [("momentum", 0.01, 0.9), ("sgd", 0.01, None), ("adam", 0.001, None)]
    )
    def test_come_from_the_file(self, job, converted, place: Place, name: str, rate: float, momentum: Any) -> None:
        config = job(**place(converted(name))).config
        assert (config.optimizer, config.rate, config.momentum) == (name, rate, momentum)
        assert (config.model, config.batch_size, config.init) == ("lenet", 32, None)

    def test_a_run_says_and_does_what_the_file_says(self, job, converted, place: Place) -> None:
        of_file = job(**place(converted("adam"))).run()
        assert of_file.title.startswith("lenet, ")
        named = {"optimizer": "adam", "learning_rate": 0.001, "overwrite": True}
        same = job(origin_train_model_path=converted("adam"), **named).run()
        assert of_file.hash == same.hash

    def test_a_batch_of_another_size(self, job, converted) -> None:
        made = job(origin_train_model_path=converted("momentum", 62, 3, 8))
        assert made.config.batch_size == 8
        assert made.run().history[0].clients == 2

    def test_without_a_file(self, tmp_path: Path) -> None:
        config, notes = settled(JobConfig(work_dir=tmp_path))
        assert (config.model, config.init, config.optimizer) == ("lenet", "lecun", "momentum")
        assert (config.momentum, config.batch_size, config.rate, notes) == (0.9, 32, 0.01, [])
        assert settled(JobConfig(work_dir=tmp_path, optimizer="adam"))[0].rate == 0.001

    def test_a_file_of_mindfl_is_no_file_of_the_user(self, tmp_path: Path, converted) -> None:
        config = JobConfig(work_dir=tmp_path)
        config.models.mkdir()
        path = config.models / "lenet_train.ms"
        shutil.copy(converted(), path)
        assert own_model(config) == path
        note = {"settings": {}, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        path.with_name("lenet_train.ms.json").write_text(json.dumps(note))
        assert own_model(config) is None

    def test_a_broken_file_is_left_to_what_reads_it(self, job, tmp_path: Path) -> None:
        (tmp_path / "broken.ms").write_bytes(b"no model")
        job(origin_train_model_path=tmp_path / "broken.ms", optimizer="adam")


class TestWithoutEffect:
    @pytest.mark.parametrize(
        ("settings", "text"),
        [
            ({"init": "he"}, "--init he has no effect on .*: the file holds the initial weights"),
            ({"converter": "/opt/lite"}, "--converter /opt/lite has no effect on .*: the file is converted already"),
            ({"seed": 5}, "--seed 5 has no effect: model and data are given, and all clients take part"),
        ],
    )
    def test_is_named(self, job, converted, place: Place, settings: Any, text: str) -> None:
        with pytest.warns(MindflWarning, match=text) as caught:
            job(**place(converted()), **settings)
        assert len(caught) == 1

    def test_momentum_of_an_optimizer_that_has_none(self, job, converted, place: Place) -> None:
        with pytest.warns(
            MindflWarning, match=r"--momentum 0.5 has no effect on .*: its optimizer, adam, has none"
        ) as all:
            job(**place(converted("adam")), momentum=0.5)
        assert len(all) == 1

    def test_momentum_of_an_exported_optimizer_that_has_none(self, tmp_path: Path) -> None:
        with pytest.warns(MindflWarning, match=r"--momentum has no effect on other optimizers"):
            FederatedLeNetJob(work_dir=tmp_path, optimizer="sgd", momentum=0.5)

    def test_a_seed_that_is_used(self, job, converted, recwarn: pytest.WarningsRecorder) -> None:
        own = {"origin_train_model_path": converted(), "seed": 5}
        job(**own, clients_per_iteration=1)
        job(**own, encrypt_type="DP_ENCRYPT")
        job(**own, train_dataset=None)
        assert not recwarn.list

    def test_a_study_says_it_once(self, converted, writers: Path, tmp_path: Path) -> None:
        told: list[str] = []
        (tmp_path / "own").mkdir()
        shutil.copy(converted(), tmp_path / "own" / "lenet_train.ms")
        given = {"train_dataset": writers, "train_model_path": tmp_path / "own", "init": "he", "seed": 3}
        run_study(
            ["plain"], say=told.append, work_dir=tmp_path / "study", client_num=2, iterations=1, epochs=1, **given
        )
        warnings = [text.partition(" has")[0] for text in told if text.startswith("warning: ")]
        assert warnings == ["warning: --init he", "warning: --seed 3"]


class TestDevices:
    @pytest.mark.parametrize(
        ("word", "hint"), [("gpu", "did you mean GPU?"), ("TPU", ""), ("ascent", "did you mean Ascend?")]
    )
    def test_unknown_ones(self, word: str, hint: str) -> None:
        with pytest.raises(OptionError, match=f"device_target must be one of CPU, GPU, Ascend, got '{word}'") as caught:
            JobConfig(device_target=word)
        assert caught.value.hint == hint

    @pytest.mark.parametrize("device", ["GPU", "Ascend"])
    def test_one_that_would_not_be_used(self, device: str) -> None:
        with pytest.raises(OptionError, match=f"device_target {device} is for engine mindspore: engine lite trains on"):
            JobConfig(device_target=device)
        assert JobConfig(device_target=device, engine="mindspore").device_target == device


@pytest.mark.parametrize("momentum", [-0.1, 1, 2.0, float("nan")])
def test_momentum_out_of_range(momentum: float) -> None:
    with pytest.raises(OptionError, match="momentum must be a number of at least 0 and below 1"):
        JobConfig(momentum=momentum)


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ({"model": "lenett"}, "did you mean lenet?; a network of your own is FILE.py:CLASS"),
        ({"init": "Lecun"}, "did you mean lecun?"),
        ({"optimizer": "SGD"}, "did you mean sgd?"),
    ],
)
def test_words_that_are_nearly_right(settings: dict[str, str], hint: str) -> None:
    with pytest.raises(OptionError) as caught:
        JobConfig(**settings)
    assert caught.value.hint == hint
