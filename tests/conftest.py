"""Fixtures that several packages' tests share: exported and converted models, made once per session."""

from __future__ import annotations

import fcntl
import gc
import os
import re
import signal
import sys
import tarfile
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from all_processors import distribute
from empty_figures import figures_left_empty
from hypothesis import settings
from made_once import kept_in
from rgb_network import RGB
from skipped_before import pytest_addoption, pytest_configure  # noqa: F401

from mindfl.convert import convert_model, fetch_library
from mindfl.convert.library import find_library, offline
from mindfl.data import Dataset, convert_leaf, open_dataset
from mindfl.errors import FetchError, SimulationError
from mindfl.export import export_mindir
from mindfl.lite import LiteModel
from mindfl.lite.kernels import load_machine
from mindfl.models import MODELS, ModelSpec
from mindfl.options.job_options import OptimizerName
from mindfl.real import install
from mindfl.real.federated_redis import redis_server
from mindfl.sim.engines import LiteEngine

# How long an example takes says nothing while other processes have the processors.
settings.register_profile("untimed", settings(), deadline=None)
settings.load_profile("untimed")

#: files that tell soon whether an installation works: each package, and one whole job
_SMOKE = (
    *(
        "test_files.py",
        "test_errors.py",
        "test_package.py",
        "test_cli_main.py",
        "test_models.py",
        "test_lite_kernels.py",
    ),
    *("test_data_forms.py", "test_protocol_codec.py", "test_privacy_quantiser.py", "test_secagg_ciphers.py"),
    *("test_server_coordinator.py", "test_client_device.py", "test_sim_history.py"),
)
_SMOKE_TESTS = (
    *("test_help_lists_every_command", "test_lenet_is_the_reference_network", "test_by_subclass_and_by_name"),
    "test_export_is_mindspores_own_version_with_the_given_shapes",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what ``pytest -m smoke`` runs, and refuse names that differ from process to process."""
    if addresses := [item.nodeid for item in items if " at 0x" in item.nodeid]:
        raise pytest.UsageError(f"the name of a test holds an address, so it is another one each time: {addresses[0]}")
    for item in items:
        chosen = item.path.name in _SMOKE or getattr(item, "originalname", "") in _SMOKE_TESTS
        if chosen and not any(item.iter_markers("slow")) and not any(item.iter_markers("real_server")):
            item.add_marker(pytest.mark.smoke)


#: so many new ones bring objects enough to be kept out of garbage collection
_MANY_MODULES = 200
_modules_frozen = 0


def pytest_collection_finish() -> None:
    """Keep the objects that live as long as the run out of garbage collection: each job's end has one."""
    _freeze_new_modules()


def pytest_runtest_logfinish() -> None:
    """The same, where a test was the first to import MindSpore or the compiler."""
    _freeze_new_modules()


def _freeze_new_modules() -> None:
    global _modules_frozen
    if len(sys.modules) > _modules_frozen + _MANY_MODULES:
        _modules_frozen = len(sys.modules)
        gc.collect()
        gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run a whole default suite on all processors."""
    distribute(config)


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_reaches_subprocesses() -> Iterator[None]:
    """A script's shell lets what it starts with ``&`` ignore SIGINT, and so would all that the tests start."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Return a folder that the processes of a run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if hasattr(request.config, "workerinput") else base


@pytest.fixture(scope="session", autouse=True)
def _made_once_in_a_run(shared_folder: Path) -> Iterator[None]:
    """Let the processes of a run share what MindSpore and the converter made of the same."""
    with kept_in(shared_folder / "made"):
        yield


@pytest.fixture(scope="session", autouse=True)
def _figures_left_empty() -> Iterator[None]:
    """Let the jobs of the tests save empty figures."""
    with figures_left_empty():
        yield


@pytest.fixture(scope="session", autouse=True)
def _disk_not_awaited() -> Iterator[None]:
    """Let nothing wait for the disk: a power cut is what no test sees, and a third of a small job's time were waits."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("fsync", "fdatasync"):
            patch.setattr(os, name, os.fstat)  # which fails for what is no open file, too
        yield


@pytest.fixture(scope="session", autouse=True)
def _kernels_compiled_once(shared_folder: Path, request: pytest.FixtureRequest) -> None:
    """Of several processes let the first compile the kernels, where no cache holds them, while the others wait."""
    if hasattr(request.config, "workerinput"):
        with (shared_folder / "kernels.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            load_machine()


#: (optimizer, classes, channels, batch size) -> file
ModelFactory = Callable[..., Path]


def _made_once(make: ModelFactory) -> ModelFactory:
    made = cache(make)

    def model(
        optimizer: str = "momentum", classes: int = 62, channels: int = 3, batch: int = 32, weight_decay: float = 0.0
    ) -> Path:
        return made(optimizer, classes, channels, batch, weight_decay)

    return model


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> ModelFactory:
    """Return a function that exports LeNet with MindSpore (seed 1); each combination is made once. Do not modify."""
    folder = tmp_path_factory.mktemp("exported")

    def export(optimizer: str, classes: int, channels: int, batch: int, weight_decay: float) -> Path:
        return export_mindir(
            folder / f"lenet_{optimizer}_{classes}_{channels}_{batch}_{weight_decay}",
            optimizer=optimizer,
            num_class=classes,
            num_channel=channels,
            batch_size=batch,
            weight_decay=weight_decay,
            learning_rate=0.001 if optimizer == "adam" else 0.01,
            seed=1,
        ).path

    return _made_once(export)


@pytest.fixture(scope="session")
def converter_library() -> Path:
    """Fetch the real converter library into the cache folder, or skip where downloads are forbidden."""
    if offline() and find_library() is None:
        pytest.skip("the converter library is not in the cache and MINDFL_OFFLINE is set")
    return fetch_library()


@pytest.fixture(scope="session")
def converted(
    exported: ModelFactory, converter_library: Path, tmp_path_factory: pytest.TempPathFactory
) -> ModelFactory:
    """Return a function that converts what ``exported`` makes; same arguments, made once each. Do not modify."""
    folder = tmp_path_factory.mktemp("converted")

    def convert(*variant: str | float) -> Path:
        mindir = exported(*variant)
        return convert_model(mindir, folder / mindir.stem).path

    return _made_once(convert)


@pytest.fixture(scope="session")
def shipped(converter_library: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that exports and converts a shipped network, perhaps with settings, of batch 4 and seed 1.

    Albert is trained with Adam, the others with momentum. Each is made once; do not modify.
    """
    folder = tmp_path_factory.mktemp("shipped")

    @cache
    def convert(model: str) -> Path:
        name = re.sub(r"\W", "_", model)
        optimizer: OptimizerName = "adam" if model.startswith("albert") else "momentum"
        mindir = export_mindir(folder / name, model=model, batch_size=4, optimizer=optimizer, seed=1).path
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of operators that the runtime lacks
            return convert_model(mindir, folder / name).path

    return convert


@pytest.fixture
def first_release(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that unpacks one of the archives of ``golden/first_release`` and returns the folder."""

    def unpack(name: str) -> Path:
        with tarfile.open(Path(__file__).parent / "golden" / "first_release" / f"{name}.tar.xz") as archive:
            archive.extractall(tmp_path / name, filter="data")
        return tmp_path / name

    return unpack


@pytest.fixture
def rgb(monkeypatch: pytest.MonkeyPatch) -> ModelSpec:
    """A registered network with 3x3 filters on three channels, whose order no shape tells."""
    monkeypatch.setitem(MODELS, RGB.name, RGB)
    return RGB


@pytest.fixture(scope="session")
def rgb_files(converter_library: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return its training graph and the file that is converted of it (batch 32, seed 1). Do not modify."""
    folder = tmp_path_factory.mktemp("rgb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, RGB.name, RGB)
        mindir = export_mindir(folder / "rgb_train", model=RGB.name, seed=1).path
    return mindir, convert_model(mindir, folder / "rgb_train").path


@pytest.fixture(scope="session")
def femnist() -> Path:
    """Return the folder of real FEMNIST shards beside the repository, or skip."""
    folder = Path(__file__).parents[2] / "shared" / "data" / "femnist"
    if not folder.is_dir():
        pytest.skip(f"no FEMNIST in {folder}")
    return folder


@pytest.fixture(scope="session")
def femnist_dataset(femnist: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Return the real FEMNIST writers."""
    folder = tmp_path_factory.mktemp("femnist") / "compact"
    convert_leaf(femnist, folder, format="compact", progress=False)
    return open_dataset(folder)


@pytest.fixture(scope="session")
def lenet(converted: Callable[..., Path]) -> LiteEngine:
    """Return what executes the converted LeNet."""
    return LiteEngine(LiteModel.load(converted()))


@pytest.fixture(scope="session")
def real_interpreter() -> Path:
    """Return the interpreter that has MindSpore Federated 0.1.0 (installed now where missing), or skip."""
    try:
        redis_server()
        return install()
    except (SimulationError, FetchError) as missing:
        pytest.skip(f"no real server: {missing}")
