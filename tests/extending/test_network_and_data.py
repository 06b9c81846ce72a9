"""A network and a data set of a user's own train as mindfl's do: by name and as objects, resumed, and in MindSpore."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from colours import NAMES, stripes

from mindfl.cli.export import export_command
from mindfl.data import Dataset, make_synthetic
from mindfl.errors import OptionError
from mindfl.lite import LiteModel
from mindfl.models import NetworkSizes, import_mindspore, model_spec
from mindfl.sim import FederatedLeNetJob, Result
from mindfl.sim.job import Silent

HERE = Path(__file__).parent
BY_NAME: dict[str, Any] = {"model": f"{HERE}/nets.py:TinyNet", "train_dataset": f"{HERE}/colours.py:stripes"}
PLAN: dict[str, Any] = {"client_num": 3, "iterations": 4, "epochs": 3, "learning_rate": 0.02}


def job(folder: Path, **settings: Any) -> FederatedLeNetJob:
    return FederatedLeNetJob(work_dir=folder, **{**PLAN, **settings})


def as_objects() -> dict[str, Any]:
    from nets import TinyNet

    return {"model": TinyNet, "train_dataset": stripes()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, converter_library: Path) -> Path:
    return tmp_path_factory.mktemp("own")


@pytest.fixture(scope="module")
def result(folder: Path) -> Result:
    """Trained with one worker; its files are in ``folder / "run"``."""
    return job(folder / "run", workers=1, **BY_NAME).run()


def right(predict: Any, data: Dataset) -> list[float]:
    shares = []
    for user in data:
        logits = predict(np.ascontiguousarray(user.test.images().transpose(0, 3, 1, 2)))
        shares.append(float((logits.argmax(1) == user.test.labels).mean()))
    return shares


def test_they_learn(result: Result) -> None:
    assert result.title == "TinyNet, arrays (arrays), 3 clients"
    assert result.history[0].avg < 0.8 < result.history[-1].avg
    assert sorted(value.size for value in result.weights.values()) == [5, 8 * 3 * 9, 8 * 12 * 12 * 5]


@pytest.mark.parametrize("settings", [{"workers": 2}, {"workers": 1, "transport": "http"}], ids=str)
def test_as_objects_they_give_the_same_weights(result: Result, tmp_path: Path, settings: Any) -> None:
    assert job(tmp_path, **as_objects(), **settings).run().hash == result.hash


def test_mindspore_trains_to_the_same_accuracy(result: Result, tmp_path: Path) -> None:
    other = job(tmp_path, engine="mindspore", **BY_NAME).run()
    theirs = other.mindspore_weights()
    for name, values in result.mindspore_weights().items():
        np.testing.assert_allclose(theirs[name], values, atol=1e-4, err_msg=name)
    assert other.history[-1].avg == pytest.approx(result.history[-1].avg)


@pytest.mark.parametrize("suffix", ["ckpt", "mindir"])
def test_the_trained_network_is_as_accurate_in_mindspore(result: Result, tmp_path: Path, suffix: str) -> None:
    mindspore = import_mindspore()
    path = str(result.save_checkpoint(tmp_path / f"trained.{suffix}"))
    if suffix == "ckpt":
        from nets import TinyNet

        network = TinyNet(5, 3, (24, 24))
        assert mindspore.load_param_into_net(network, mindspore.load_checkpoint(path), strict_load=True) == ([], [])
    else:
        network = mindspore.nn.GraphCell(mindspore.load(path))
    shares = right(lambda images: network(mindspore.Tensor(images)).asnumpy(), stripes())
    assert np.mean(shares) == pytest.approx(result.history[-1].avg)


def test_predictions_have_the_names_of_the_classes(result: Result, folder: Path) -> None:
    predicted = job(folder / "run", **BY_NAME).infer()
    with (folder / "run" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 90 == sum(map(len, predicted.values()))
    for row in rows:
        assert (row["label_name"], row["predicted_name"]) == (NAMES[int(row["label"])], NAMES[int(row["predicted"])])


_KILLED = """
import json, os, signal, sys
from mindfl.sim import FederatedLeNetJob
from mindfl.sim.job import Silent

class Killer(Silent):
    def row(self, row):
        if row.iteration == 2:
            os.kill(os.getpid(), signal.SIGKILL)

FederatedLeNetJob(reporter=Killer(), **json.loads(sys.argv[1])).run()
"""


def test_a_killed_run_goes_on_with_the_same_bits(result: Result, tmp_path: Path) -> None:
    settings = {**PLAN, **BY_NAME, "work_dir": str(tmp_path / "run")}
    done = subprocess.run([sys.executable, "-c", _KILLED, json.dumps(settings)], check=False)
    assert done.returncode == -signal.SIGKILL
    resumed = FederatedLeNetJob(work_dir=tmp_path / "run", resume=True).run()
    assert (len(resumed.history), resumed.hash) == (4, result.hash)


class Interrupted(Silent):
    """Ends the run after the second iteration."""

    def row(self, row: Any) -> None:
        if row.iteration == 2:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_objects_must_be_given_again(result: Result, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        FederatedLeNetJob(work_dir=tmp_path, reporter=Interrupted(), **PLAN, **as_objects()).run()
    path = tmp_path / "config.json"
    for again in (
        lambda: FederatedLeNetJob(work_dir=tmp_path, resume=True),
        lambda: FederatedLeNetJob.from_config(path, work_dir=tmp_path / "again"),
    ):
        with pytest.raises(OptionError) as caught:
            again()
        assert (
            str(caught.value) == f"train_dataset of the run in {path} was an object of its program: <data set 'arrays'>"
        )
        assert caught.value.hint.startswith("give train_dataset again")
    other = Dataset.from_arrays({"ann": (np.zeros((9, 24, 24, 3), np.uint8), np.arange(9) % 5)}, class_names=NAMES)
    with pytest.raises(OptionError, match=r"the data are not those that the run .* began with"):
        FederatedLeNetJob(work_dir=tmp_path, resume=True, train_dataset=other).run()
    assert FederatedLeNetJob(work_dir=tmp_path, resume=True, train_dataset=stripes()).run().hash == result.hash
    repeated = FederatedLeNetJob.from_config(path, work_dir=tmp_path / "again", train_dataset=stripes())
    assert repeated.run().hash == result.hash


@pytest.mark.slow
def test_changed_code_is_exported_anew(tmp_path: Path, converter_library: Path) -> None:
    """Also that of a module which the network's file imports."""
    (tmp_path / "filters.py").write_text("COUNT = 4\n")
    net = f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\nimport filters\n"
    tiny = (HERE / "nets.py").read_text().replace("from __future__ import annotations\n", "")
    (tmp_path / "own.py").write_text(net + tiny.replace("8", "filters.COUNT"))
    settings = {"model": f"{tmp_path}/own.py:TinyNet", "train_dataset": stripes()}

    def sizes() -> list[int]:
        model = Path(job(tmp_path / "run", **settings).convert())
        return sorted(value.size for value in LiteModel.load(model).weights.values())

    before = sizes()
    stamp = (tmp_path / "run" / "ms" / "TinyNet_train.ms").stat().st_mtime_ns
    assert sizes() == before and (tmp_path / "run" / "ms" / "TinyNet_train.ms").stat().st_mtime_ns == stamp
    (tmp_path / "filters.py").write_text("COUNT = 6\n")
    assert before == [5, 4 * 27, 4 * 144 * 5] and sizes() == [5, 6 * 27, 6 * 144 * 5]
    (tmp_path / "own.py").write_text(net + tiny)
    assert sizes() == [5, 8 * 27, 8 * 144 * 5]


_SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from colours import stripes
from nets import TinyNet
from mindfl.sim import FederatedLeNetJob

class Own(TinyNet):
    pass

def small(num_class, num_channel, image_size):
    return TinyNet(num_class, num_channel, image_size)

def run(model):
    job = FederatedLeNetJob(
        work_dir="run", train_dataset=stripes(), model=model, client_num=3, iterations=1, epochs=1, overwrite=True
    )
    print(job.run().hash)

run(Own), run(small), run(lambda **sizes: small(sizes["num_class"], sizes["num_channel"], sizes["image_size"]))
"""


@pytest.mark.slow
def test_classes_and_functions_of_the_main_program(converter_library: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(HERE)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    hashes = done.stdout.split()
    assert len(hashes) == 3 and len({*hashes}) == 1, done.stderr
    settings = json.loads((tmp_path / "run" / "config.json").read_text())["settings"]
    assert settings["model"] == "<<lambda>>"


def test_initial_weights_that_an_own_network_does_not_take_are_refused() -> None:
    sizes = NetworkSizes(num_class=5, num_channel=3, image_size=(24, 24))
    with pytest.raises(OptionError, match="model TinyNet takes no init: its class sets its own initial weights"):
        model_spec(BY_NAME["model"]).make(sizes, init="he", seed=0)


def test_lenet_is_exported_for_the_data(tmp_path: Path, converter_library: Path) -> None:
    weights = LiteModel.load(job(tmp_path, train_dataset=stripes()).convert()).weights
    assert weights["conv1.weight"].shape == (6, 5, 5, 3) and weights["fc3.bias"].shape == (5,)
    assert weights["fc1.weight"].shape == (120, 16 * 3 * 3)


def test_data_that_the_model_file_is_not_for(result: Result, folder: Path, tmp_path: Path) -> None:
    own = folder / "run" / "ms" / "TinyNet_train.ms"
    make_synthetic(tmp_path / "writers", users=3, progress=False)
    with pytest.raises(OptionError) as caught:
        job(tmp_path / "run", origin_train_model_path=own, train_dataset=tmp_path / "writers").run()
    assert str(caught.value) == (
        f"{own} is for 5 classes and 24x24 images with 3 channels, but the data set {tmp_path / 'writers'} has"
        " 62 classes and 32x32 images with 3 channels"
    )


def test_a_network_that_does_not_fit_the_data(tmp_path: Path, converter_library: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from nets import TinyNet\ndef seven(image_size):\n    return TinyNet(7, 3, image_size)\n"
    )
    with pytest.raises(OptionError, match=r"is for 7 classes and 24x24 images with 3 channels, but .* has 5 classes"):
        job(tmp_path / "run", model=f"{tmp_path}/own.py:seven", train_dataset=stripes()).run()
    tiny = Dataset.from_arrays({"ann": (np.zeros((9, 12, 12), np.uint8), np.arange(9))})
    with pytest.raises(OptionError, match="LeNet takes images of at least 16x16, not 12x12"):
        job(tmp_path / "small", train_dataset=tiny).run()


REFUSED = {
    "nothing": "unknown model 'nothing'",
    "nowhere.py:Net": "model: no file",
    "own.py:Missing": "has no Missing",
    "own.py:number": "model number is int, no class and no function",
    "own.py:text": "model text returns str, not a mindspore.nn.Cell",
    "own.py:fails": "model fails cannot be made for 5 classes .*: ZeroDivisionError",
    "own.py:Width": "model Width cannot be made for .* missing 1 required positional argument: 'width'",
}
_REFUSED_CODE = """
from mindspore import nn

number = 5
text = lambda: "cell"
fails = lambda num_class: num_class // 0

class Width(nn.Cell):
    def __init__(self, width):
        super().__init__()
"""


@pytest.mark.parametrize("model", REFUSED)
def test_what_is_no_network_is_refused(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(_REFUSED_CODE)
    sizes = NetworkSizes(num_class=5, num_channel=3, image_size=(24, 24))
    with pytest.raises(OptionError, match=REFUSED[model]):
        model_spec(model).make(sizes, init=None, seed=0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("colours.py:nothing", "has no nothing"),
        ("colours.py:NAMES", "is list, no data set"),
        ("nowhere:data", "cannot import nowhere"),
    ],
)
def test_what_is_no_data_set_is_refused(data: str, message: str, tmp_path: Path) -> None:
    where = f"{HERE}/{data}" if ".py" in data else data
    with pytest.raises(OptionError, match=f"train_dataset.*{message}"):
        job(tmp_path, train_dataset=where).prepare_data()


def test_an_own_network_is_exported_on_the_command_line(tmp_path: Path) -> None:
    line = ["--mindir_path", str(tmp_path / "net"), "--model", f"{HERE}/nets.py:TinyNet", "--json"]
    line += ["--num_class", "5", "--num_channel", "3"]
    done = CliRunner().invoke(export_command, [*line, "--image_size", "24", "24"])
    assert json.loads(done.stdout)["parameters"]["conv.weight"] == [8, 3, 3, 3]
    assert str(CliRunner().invoke(export_command, line).exception) == "TinyNet has no image_size of its own"


def test_an_installed_package_offers_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its entry point, with settings of its own."""
    (tmp_path / "own_nets.py").write_text(
        (HERE / "nets.py")
        .read_text()
        .replace("image_size: tuple[int, int])", "image_size, filters=1)")
        .replace("8", "filters")
    )
    info = tmp_path / "own_nets-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: own-nets\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[mindfl.models]\ntiny = own_nets:TinyNet\n")
    monkeypatch.syspath_prepend(tmp_path)
    spec = model_spec("tiny:filters=3")
    assert (spec.name, spec.by_name) == ("tiny", True)
    weights = LiteModel.load(job(tmp_path / "run", model="tiny:filters=3", train_dataset=stripes()).convert()).weights
    assert weights["conv.weight"].shape == (3, 3, 3, 3)
    with pytest.raises(OptionError, match="unknown model 'tinny'") as caught:
        model_spec("tinny")
    assert caught.value.hint == "did you mean tiny?; a network of your own is FILE.py:CLASS"


def test_the_nodes_of_a_ray_cluster_get_the_arrays(result: Result, tmp_path: Path, ray_cluster: str) -> None:
    there = {"executor": "ray", "ray_address": ray_cluster, "per_client_models": False}
    assert job(tmp_path, **there, **as_objects()).run().hash == result.hash
