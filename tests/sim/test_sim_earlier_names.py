"""Model files are named by the network; those that were called ``lenet_train`` whatever the network are not lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mindfl.errors import OptionError
from mindfl.files import file_digest
from mindfl.sim import FederatedJob, JobConfig
from mindfl.sim.job import Silent


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "lenet_train"),
        ({"model": "lenet:bias=true"}, "lenet_train"),
        ({"model": "mlp"}, "mlp_train"),
        ({"model": "mobilenet_v2:width=0.5"}, "mobilenet_v2_train"),
        ({"model": "nets.py:TinyNet:width=8"}, "TinyNet_train"),
        ({"model": "mlp", "train_ms_name": "mine"}, "mine"),
        ({"fl_name": "com.mindspore.flclient.demo.albert.AlbertClient"}, "albert_train"),
        ({"origin_train_model_path": Path("files/alex net.ms")}, "alex net"),
        ({"origin_train_model_path": Path("net.ms"), "model": "mlp"}, "mlp_train"),
    ],
    ids=str,
)
def test_the_name_follows_the_network(settings: dict[str, Any], name: str) -> None:
    config = JobConfig(**settings)
    assert config.client_model(3).name == f"{name}3.ms"
    assert config.derived(train_ms_name="other").client_model(3).name == "other3.ms"


def test_a_function_without_a_name() -> None:
    assert JobConfig(model=lambda: None).model_name == "lambda_train"


def test_a_name_that_no_file_can_have() -> None:
    with pytest.raises(OptionError, match=r"^the model files' name is longer than 200 bytes: NNN"):
        JobConfig(model=f"nets.py:{'N' * 200}")


def mlp(folder: Path, **settings: Any) -> FederatedJob:
    return FederatedJob(work_dir=folder, model="mlp", reporter=Silent(), **settings)


def test_an_earlier_run_goes_on_with_its_files(tmp_path: Path) -> None:
    record = {"form": 1, "command": [], "versions": {}, "data": {}, "began": ""}
    record["settings"] = {"model": "mlp", "train_ms_name": "lenet_train"}
    record["model"] = {"path": str(tmp_path / "ms" / "lenet_train.ms"), "sha256": "", "own": False}
    (tmp_path / "config.json").write_text(json.dumps(record))
    assert mlp(tmp_path, resume=True).trained_model_path.endswith("ms/lenet_train_trained.ms")
    assert mlp(tmp_path).trained_model_path.endswith("ms/mlp_train_trained.ms")


class TestFilesOfTheEarlierName:
    @pytest.fixture
    def models(self, tmp_path: Path) -> Path:
        """Models as a training of ``mlp`` left them: the files that mindfl made to start from, and their notes."""
        (tmp_path / "ms").mkdir()
        for suffix in ("mindir", "ms"):
            path = tmp_path / "ms" / f"lenet_train.{suffix}"
            path.write_bytes(suffix.encode())
            note = {"settings": {"model": "mlp"}, "sha256": file_digest(path)}
            path.with_name(path.name + ".json").write_text(json.dumps(note))
        return tmp_path / "ms"

    def test_what_mindfl_makes_again_is_no_loss(self, models: Path) -> None:
        assert mlp(models.parent).trained_model_path == str(models / "mlp_train_trained.ms")

    @pytest.mark.parametrize("name", ["lenet_train.ms", "lenet_train.mindir", "lenet_train.ckpt"])
    def test_the_users_own_is_not_passed_over(self, models: Path, name: str) -> None:
        (models / name).write_bytes(b"own")
        for settings in ({}, {"overwrite": True}, {"train_model_path": models}):
            with pytest.raises(OptionError) as caught:
                mlp(models.parent, **settings)
            assert str(caught.value) == (
                f"{models / name} has the name that earlier versions gave the model files of every network: those of "
                "mlp are now called mlp_train"
            )
        assert "--train_ms_name lenet_train uses them" in str(caught.value.hint)
        assert mlp(models.parent, train_ms_name="lenet_train").trained_model_path.endswith("lenet_train_trained.ms")
        (models / "mlp_train.ms").write_bytes(b"chosen")
        assert mlp(models.parent)

    def test_a_result_is_not_passed_over(self, models: Path) -> None:
        (models / "lenet_train_trained.json").write_text('{"files": {}, "client_num": 2}')
        with pytest.raises(OptionError, match=r"lenet_train_trained\.ms has the name that earlier versions gave"):
            mlp(models.parent)
        assert mlp(models.parent, overwrite=True), "a result that is replaced is no loss"
        assert FederatedJob(work_dir=models.parent, model="resnet8", reporter=Silent()), "another network's result"
