"""The examples in docstrings run, and each public name has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mindfl
from mindfl import FederatedLeNetJob, LiteModel, Session, make_synthetic
from mindfl.server import Coordinator, ServerConfig

PACKAGE = Path(mindfl.__file__).parent
MODULES = sorted(
    ".".join(("mindfl", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text("utf-8")
)
#: an example of theirs needs what a test of the package alone does not have
ELSEWHERE = {"mindfl.real.federated_server": "MindSpore Federated's server"}


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory, exported: Any, converted: Any) -> Iterator[dict[str, Any]]:
    """Names that examples may use beside their module's; the current folder holds the files that they name."""
    folder = tmp_path_factory.mktemp("examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        shutil.copy(exported(), "lenet_train.mindir")
        shutil.copy(converted(), "lenet_train.ms")
        make_synthetic("writers", users=3, progress=False)
        image = folder / "images" / "ann" / "train" / "7" / "first.png"
        image.parent.mkdir(parents=True)
        _draw(image)
        _leaf(folder / "leaf")
        job = FederatedLeNetJob(
            work_dir="run",
            train_dataset="writers",
            origin_train_model_path="lenet_train.ms",
            client_num=2,
            iterations=1,
        )
        result = job.run()
        shutil.copy(job.trained_model_path, "lenet_train_trained.ms")
        model = LiteModel.load("lenet_train.ms")
        config = ServerConfig(fl_iteration_num=1, start_fl_job_threshold=1, client_batch_size=32)
        yield {
            "result": result,
            "session": Session(model),
            "model": model,
            "weights": model.to_mindspore(),
            "coordinator": Coordinator(config, model.weights),
        }


class _Finder(doctest.DocTestFinder):
    """Finds decorated functions too, which belong to their module by name only."""

    def _from_module(self, module: Any, object: Any) -> bool:
        return bool(getattr(object, "__module__", None) == module.__name__)


def _draw(path: Path) -> None:
    from PIL import Image

    Image.new("L", (28, 28), 255).save(path)


def _leaf(folder: Path) -> None:
    data = {"users": ["f1"], "num_samples": [2], "user_data": {"f1": {"x": [[1.0] * 784] * 2, "y": [0, 61]}}}
    folder.mkdir()
    (folder / "all_data.json").write_text(json.dumps(data))


@pytest.mark.parametrize("module", MODULES)
def test_examples_run(module: str, names: dict[str, Any]) -> None:
    if module in ELSEWHERE:
        pytest.skip(f"needs {ELSEWHERE[module]}")
    found = importlib.import_module(module)
    globs = {**vars(mindfl), **{name: getattr(mindfl, name) for name in mindfl.__all__}, **vars(found), **names}
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    report: list[str] = []
    for test in _Finder().find(found, globs=globs):
        runner.run(test, out=report.append)
    assert not report, "".join(report)
    assert runner.tries


@pytest.mark.parametrize("name", [name for name in mindfl.__all__ if name != "__version__"])
def test_each_public_name_has_an_example(name: str) -> None:
    text = inspect.getdoc(getattr(mindfl, name)) or ""
    assert ">>>" in text, f"{name} has no example"
    assert "+SKIP" not in text
    if inspect.isfunction(getattr(mindfl, name)):
        missing = [part for part in ("Args:", "Returns:", "Raises:") if part not in text]
        assert not missing, f"{name} lacks {missing}"
