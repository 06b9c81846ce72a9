"""Federated algorithms of a user's own: FedExP on the server, FedProx on the clients, SCAFFOLD's way on both."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fedexp import FedExP
from fedprox import FedProx
from geometric_median import GeometricMedian
from hypothesis import given, settings
from hypothesis import strategies as st

from mindfl.algorithms import Algorithm, Client, Correction, Round, Step, Upload, zeros_like
from mindfl.algorithms.algorithm import Arrays
from mindfl.algorithms.naming import make_algorithm, recorded
from mindfl.algorithms.server_algorithm import EXTRA
from mindfl.data import open_dataset
from mindfl.errors import AlgorithmError, ClientError, MindflError, OptionError
from mindfl.lite import LiteModel, Session
from mindfl.protocol import RequestUpdateModel
from mindfl.server import Coordinator, ServerConfig
from mindfl.server.http import BackgroundServer
from mindfl.sim import FederatedLeNetJob
from mindfl.sim.job import Silent

HERE = Path(__file__).parent
JobFactory = Callable[..., FederatedLeNetJob]
Floats = np.ndarray[Any, np.dtype[np.float64]]


class Everything(Algorithm):
    """Has everything: arrays both ways, a state, and what clients remember."""

    def extras(self, model: Arrays) -> Arrays:
        return zeros_like(model)

    def state(self, model: Arrays) -> Arrays:
        return {"rounds": np.zeros(1, np.int64)}

    def begin(self, client: Client) -> Correction:
        own = client.memory or client.extras
        return Correction(shift={n: client.extras[n] - own[n] for n in client.extras})

    def end(self, client: Client) -> Upload:
        times = client.steps * client.learning_rate
        drift = {n: (client.received[n] - client.trained[n]) / np.float32(times) for n in client.received}
        return Upload(extras=drift, memory=drift)

    def step(self, round: Round) -> Step:
        state = {"rounds": round.state["rounds"] + 1}
        return Step(model=round.average, state=state, extras={n: round.extras[n] / 2 for n in round.extras})


ALGORITHMS = {"FedExP": FedExP(), "FedProx": FedProx(0.1), "Everything": Everything()}


@pytest.mark.parametrize("name", ["fedexp.py", "fedprox.py", "geometric_median.py"])
def test_a_user_writes_at_most_15_lines(name: str) -> None:
    text = (HERE / name).read_text()
    tree = ast.parse(text)
    without = {line for node in tree.body[:1] for line in range(node.lineno, (node.end_lineno or 0) + 1)}
    imports = {node.lineno for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)}
    lines = [number for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    assert len(set(lines) - without - imports) <= 15


def test_fedexp_takes_the_step_that_numpy_takes_from_the_uploads(
    make_job: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads: dict[str, Any] = {}
    handle = Coordinator.handle

    def recording(self: Coordinator, request: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(request, RequestUpdateModel):
            uploads[request.fl_id or ""] = {name: array.copy() for name, array in (request.feature_map or {}).items()}
        return handle(self, request, *arguments, **options)

    monkeypatch.setattr(Coordinator, "handle", recording)
    job = make_job(algorithm=FedExP(), iterations=1)
    result = job.run()
    began = LiteModel.load(job.config.models / "lenet_train.ms").weights
    sizes = {name: user.train.size for name in uploads for user in [open_dataset(job.config.train_dataset).user(name)]}
    expected = fedexp(began, {name: (sizes[name], upload) for name, upload in uploads.items()}, 1e-3)
    assert result.weights.keys() == began.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(result.weights[name], values, rtol=1e-6, atol=1e-7)


def fedexp(began: Any, uploads: dict[str, tuple[int, Any]], eps: float) -> dict[str, Floats]:
    """Return the next model in float64; uploads are weights multiplied by the client's samples."""
    total = sum(size for size, _ in uploads.values())
    start = {name: values.reshape(-1).astype(np.float64) for name, values in began.items()}
    moves = [
        (size / total, {name: upload[name] / size - values for name, values in start.items()})
        for size, upload in uploads.values()
    ]
    mean = {name: sum(share * move[name] for share, move in moves) for name in start}
    disagreement = sum(share * np.vdot(move[name], move[name]) for share, move in moves for name in start)
    eta = max(1.0, float(disagreement) / (2 * (sum(np.vdot(move, move) for move in mean.values()) + eps)))
    return {name: start[name] + eta * mean[name] for name in start}


@given(st.lists(st.integers(1, 50), min_size=2, max_size=6), st.integers(0, 2**32), st.sampled_from([1e-3, 0.5]))
def test_fedexp_steps_further_where_updates_disagree(sizes: list[int], seed: int, eps: float) -> None:
    began = {"w": np.ones((3, 5), np.float32), "b": np.zeros(4, np.float32)}
    job = Coordinator(ServerConfig(fl_iteration_num=1, start_fl_job_threshold=len(sizes)), began, algorithm=FedExP(eps))
    generator = np.random.default_rng(seed)
    uploads = {}
    for number, size in enumerate(sizes):
        fl_id, began_flat = f"c{number}", {name: values.reshape(-1) for name, values in began.items()}
        moved = {n: v + generator.normal(0, 1, v.size).astype(np.float32) for n, v in began_flat.items()}
        norm = np.float32(sum(np.sum((moved[n] - v.astype(float)) ** 2) for n, v in began_flat.items()))
        weighted = {n: v * np.float32(size) for n, v in {**moved, EXTRA + "norm": np.array([norm])}.items()}
        uploads[fl_id] = (size, weighted)
        take_part(job, fl_id, size, weighted)
    for name, values in fedexp(began, uploads, eps).items():
        np.testing.assert_allclose(job.model[name], values, rtol=1e-4, atol=1e-5)


@given(st.integers(0, 2**32))
@settings(max_examples=20)
def test_no_point_is_nearer_to_all_clients_than_the_geometric_median(seed: int) -> None:
    began = {"w": np.zeros((2, 2), np.float32), "b": np.zeros(3, np.float32)}
    server = ServerConfig(fl_iteration_num=1, start_fl_job_threshold=6)
    job = Coordinator(server, began, algorithm=GeometricMedian(200))
    generator = np.random.default_rng(seed)
    points = generator.normal(0, 1, (6, 7)).astype(np.float32)
    points[:2] += 50
    for number, point in enumerate(points):
        take_part(job, f"c{number}", 1, {"w": point[:4], "b": point[4:]})
    found = np.concatenate([job.model["w"], job.model["b"]])
    apart = lambda where: np.linalg.norm(points - where, axis=1).sum()  # noqa: E731
    assert all(apart(found) < apart(found + step) + 1e-4 for step in generator.normal(0, 0.1, (20, 7)))
    assert np.abs(found).max() < 10


def take_part(job: Coordinator, fl_id: str, size: int, weighted: Any) -> None:
    from mindfl.protocol import RequestFLJob

    assert job.handle(RequestFLJob(fl_name="x", fl_id=fl_id, data_size=size, timestamp="0"), 0).retcode == 200
    request = RequestUpdateModel(fl_name="x", fl_id=fl_id, iteration=1, feature_map=weighted, timestamp="0")
    assert job.handle(request, 0).retcode == 200


def test_fedprox_is_that_of_numpy_in_float64(make_job: JobFactory) -> None:
    """Each gradient is what one plain step of SGD takes off the weights, beginning anywhere."""
    mu, rate = 5.0, 0.01
    job = make_job(optimizer="sgd", algorithm=FedProx(mu), client_num=1, iterations=1, learning_rate=rate)
    result = job.run()
    model = LiteModel.load(job.config.models / "lenet_train.ms")
    session = Session(model)
    dataset = open_dataset(job.config.train_dataset)
    split = dataset.user(dataset.users[0]).train
    images, labels = split.planes(), split.labels[: split.size]
    batch = session.batch_size
    began = {name: values.astype(np.float64) for name, values in model.weights.items() if name in result.weights}
    now = dict(began)
    for step in range(-(-split.size // batch)):
        rows = np.arange(step * batch, (step + 1) * batch) % split.size
        session.reset_optimizer()
        session.set_learning_rate(1.0)
        session.set_weights({name: values.astype(np.float32) for name, values in now.items()})
        before = {name: values.astype(np.float64) for name, values in session.get_weights().items()}
        session.train_step(images[rows], labels[rows])
        after = session.get_weights()
        for name in now:
            gradient = before[name] - after[name]
            now[name] = now[name] - rate * (gradient + mu * (now[name] - began[name]))
    for name, values in now.items():
        np.testing.assert_allclose(result.weights[name], values.reshape(-1), rtol=0, atol=3e-6)


def test_fedprox_without_pull_is_federated_averaging_and_with_a_large_one_stays(make_job: JobFactory) -> None:
    def moved(name: str, **settings: Any) -> tuple[str, float]:
        job = make_job(name, optimizer="sgd", iterations=1, epochs=3, learning_rate=0.01, **settings)
        result = job.run()
        began = LiteModel.load(job.config.models / "lenet_train.ms").weights
        square = sum(float(np.sum((began[n].reshape(-1) - w) ** 2)) for n, w in result.weights.items())
        return result.hash, square**0.5

    plain, distance = moved("plain")
    assert moved("zero", algorithm=FedProx(0.0))[0] == plain
    assert 0 < moved("pulled", algorithm=FedProx(90.0))[1] < distance / 5


@pytest.mark.parametrize("name", ALGORITHMS)
def test_workers_transport_interruption_and_repetition_change_nothing(name: str, make_job: JobFactory) -> None:
    settings = {"algorithm": ALGORITHMS[name], "iterations": 3, "client_num": 5, "clients_per_iteration": 3}
    whole = make_job("whole", **settings, workers=1).run()
    assert make_job("two", **settings, workers=2).run().hash == whole.hash
    assert make_job("http", **settings, transport="http").run().hash == whole.hash
    with pytest.raises(StoppedError):
        make_job("stopped", **settings, reporter=StopAfter(2)).run()
    resumed = make_job("stopped", resume=True)
    assert resumed.run().hash == whole.hash
    folder = resumed.config.work_dir
    again = FederatedLeNetJob.from_config(folder / "config.json", work_dir=folder / "again")
    assert again.run().hash == whole.hash
    assert EXTRA not in "".join((*whole.weights, *LiteModel.load(resumed.trained_model_path).weights))
    assert whole.title.endswith(f", {name}" + {"FedExP": " eps=0.001", "FedProx": " mu=0.1"}.get(name, ""))


class StoppedError(Exception):
    """Ends a run after an iteration, as a power failure would."""


class StopAfter(Silent):
    """A reporter that ends the run after an iteration."""

    def __init__(self, iteration: int) -> None:
        self._iteration = iteration

    def row(self, row: Any) -> None:
        if row.iteration == self._iteration:
            raise StoppedError


def test_what_clients_remember_and_what_is_sent_matters(make_job: JobFactory) -> None:
    """So that the hashes above could differ."""
    assert make_job("everything", algorithm=Everything()).run().hash != make_job("plain").run().hash


def test_a_server_elsewhere_takes_what_fedprox_trained(make_job: JobFactory) -> None:
    local = make_job("local", algorithm=FedProx(0.25)).run()
    model = LiteModel.load(make_job("local").config.models / "lenet_train.ms")
    config = ServerConfig(
        fl_iteration_num=2,
        start_fl_job_threshold=3,
        client_epoch_num=1,
        client_batch_size=32,
        client_learning_rate=0.01,
    )
    with BackgroundServer(Coordinator(config, model.weights)) as server:
        joined = make_job("joined", algorithm=FedProx(0.25), domain_name=server.url).run()
    assert joined.hash == local.hash


def test_mindspores_engine_trains_for_fedexp(make_job: JobFactory) -> None:
    settings = {"engine": "mindspore", "client_num": 2, "iterations": 1}
    result = make_job("own", algorithm=FedExP(), **settings).run()
    plain = make_job("plain", **settings).run()
    lite = make_job("lite", algorithm=FedExP(), **{**settings, "engine": "lite"}).run()
    assert result.weights.keys() == plain.weights.keys()
    for name, values in lite.weights.items():
        np.testing.assert_allclose(result.weights[name], values, rtol=0, atol=1e-4)


def test_an_algorithm_is_named_by_file_by_module_and_by_entry_point(
    make_job: JobFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "standin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: standin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mindfl.algorithms]\nprox = fedprox:FedProx\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    expected = make_job("object", algorithm=FedProx(0.25)).run().hash
    for number, text in enumerate((f"{HERE / 'fedprox.py'}:FedProx", "fedprox:FedProx", "prox")):
        job = make_job(f"named {number}", algorithm=f"{text}:mu=0.25")
        assert job.run().hash == expected
        config = json.loads((job.config.work_dir / "config.json").read_text())
        assert config["settings"]["algorithm"] == f"{text}:mu=0.25"
    with pytest.raises(OptionError, match="algorithm: unknown name 'prix'") as caught:
        make_job(algorithm="prix")
    assert "prox" in caught.value.hint


def test_the_command_line_takes_an_algorithm_and_says_so(make_job: JobFactory, tmp_path: Path) -> None:
    job = make_job("python", algorithm=FedProx(0.25))
    expected = job.run().hash
    command = [sys.executable, "-m", "mindfl", "simulate", "--json", "--quiet"]
    for name in ("work_dir", "train_dataset", "train_model_path", "client_num", "iterations", "epochs"):
        value = tmp_path / "command" if name == "work_dir" else getattr(job.config, name)
        command.append(f"--{name}={value}")
    command.append("--algorithm=fedprox.py:FedProx:mu=0.25")
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=True, env=os.environ)
    assert json.loads(done.stdout)["weights_sha256"] == expected
    assert "FedProx mu=0.25" in (tmp_path / "command" / "summary.txt").read_text()


def test_a_run_does_not_go_on_with_another_algorithm(make_job: JobFactory) -> None:
    make_job(algorithm=FedProx(0.25), iterations=1).run()
    for other in (FedProx(0.5), FedExP(), "fedavg"):
        with pytest.raises(OptionError, match=r"--algorithm is .*, but .* was made with fedprox:FedProx:mu=0.25"):
            make_job(algorithm=other, resume=True, iterations=2).run()
    assert len(make_job(algorithm=FedProx(0.25), resume=True, iterations=2).run().history) == 2


class Tables(Algorithm):
    """Has a setting that no text can say."""

    def __init__(self, table: Any) -> None:
        self.table = table


def test_an_object_that_no_text_makes_has_to_be_given_again(make_job: JobFactory) -> None:
    job = make_job(algorithm=Tables(np.arange(3)), iterations=1)
    job.run()
    cannot = "was made with the algorithm <test_extending_algorithms:Tables table=array"
    with pytest.raises(OptionError, match=cannot) as caught:
        make_job(resume=True)
    assert "algorithm=" in caught.value.hint
    with pytest.raises(OptionError, match=cannot):
        FederatedLeNetJob.from_config(job.config.work_dir / "config.json", work_dir=job.config.work_dir / "again")
    with pytest.raises(OptionError, match="was made with <test_extending"):
        make_job(algorithm=Tables(np.arange(4)), resume=True).run()
    assert len(make_job(algorithm=Tables(np.arange(3)), resume=True, iterations=2).run().history) == 2


@given(st.floats(allow_nan=False) | st.integers() | st.booleans() | st.text())
def test_a_record_makes_the_same_algorithm_or_none(value: Any) -> None:
    text = recorded(Tables(value))
    if text.startswith("<"):
        with pytest.raises(OptionError):
            make_algorithm(text)
    else:
        made = make_algorithm(text)
        assert isinstance(made, Tables) and (type(made.table), made.table) == (type(value), value)


@pytest.mark.parametrize(("mode", "close"), [("PW_ENCRYPT", 2e-3), ("PW_EXACT", 1e-5)])
def test_further_arrays_travel_masked(
    mode: str, close: float, make_job: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cryptography")
    norms: list[float] = []
    handle = Coordinator.handle

    def recording(self: Coordinator, request: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(request, RequestUpdateModel) and EXTRA + "norm" in (request.feature_map or {}):
            norms.append(float((request.feature_map or {})[EXTRA + "norm"][0]))
        return handle(self, request, *arguments, **options)

    monkeypatch.setattr(Coordinator, "handle", recording)
    plain = make_job("plain", algorithm=FedExP()).run()
    true, norms = sorted(norms), []
    masked = make_job("masked", algorithm=FedExP(), encrypt_type=mode).run()
    assert len(true) == 6 and len(norms) == (6 if mode == "PW_ENCRYPT" else 0)
    assert not np.isclose(true, sorted(norms), rtol=1e-6).any() if norms else True
    for name, values in plain.weights.items():
        np.testing.assert_allclose(masked.weights[name], values, rtol=0, atol=close)


REFUSED: dict[str, tuple[Algorithm, dict[str, Any], str]] = {
    "server elsewhere": (FedExP(), {"domain_name": "http://127.0.0.1:1"}, "a server of its own process makes the next"),
    "real server": (FedExP(), {"stack": "federated"}, "a server of its own process makes the next model"),
    "Java": (FedProx(), {"clients": "java", "jar_path": "a", "case_jar_path": "b"}, "Java clients train and upload"),
    "MindSpore": (FedProx(), {"engine": "mindspore"}, "MindSpore's training step cannot be corrected"),
    "noise": (FedExP(), {"encrypt_type": "DP_ENCRYPT"}, "DP_ENCRYPT would clip its further arrays"),
    "signs": (FedExP(), {"encrypt_type": "SIGNDS"}, "SIGNDS uploads signs"),
    "sums": (GeometricMedian(), {"encrypt_type": "PW_EXACT"}, "it needs single uploads, and PW_EXACT shows"),
    "compressed": (FedExP(), {"upload_compress_type": "DIFF_SPARSE_QUANT"}, "DIFF_SPARSE_QUANT leaves most values"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_go_together_is_refused_once_with_a_way_out(case: str, make_job: JobFactory) -> None:
    algorithm, settings, reason = REFUSED[case]
    with pytest.raises(OptionError, match=rf"^algorithm \w+ [a-z]+=[0-9.]+ does not work here: {reason}") as caught:
        make_job(algorithm=algorithm, **settings)
    assert caught.value.hint


class Halved(Algorithm):
    """Replaces the step alone."""

    def step(self, round: Round) -> Step:
        return Step(model={n: (round.average[n] + round.model[n]) / 2 for n in round.model})


@pytest.mark.parametrize(
    "settings",
    [
        *({"encrypt_type": mode} for mode in ("DP_ENCRYPT", "SIGNDS")),
        {"upload_compress_type": "DIFF_SPARSE_QUANT"},
        {"download_compress_type": "QUANT"},
        {"train_weight_name": "fc3.weight,fc3.bias"},
    ],
    ids=str,
)
@pytest.mark.parametrize("algorithm", [Halved(), FedProx(1.0)], ids=["step", "begin"])
def test_step_or_correction_alone_go_with_every_form_of_upload(
    algorithm: Algorithm, settings: dict[str, Any], make_job: JobFactory
) -> None:
    plain = make_job("plain", client_num=2, iterations=1, **settings).run()
    other = make_job("other", client_num=2, iterations=1, algorithm=algorithm, **settings).run()
    assert other.hash != plain.hash and other.weights.keys() == plain.weights.keys()


class Broken(Algorithm):
    """Fails where it is told."""

    def __init__(self, where: str = "", iteration: int = 2) -> None:
        self.where = where
        self.iteration = iteration

    def fail(self, where: str, iteration: int) -> None:
        if (where, iteration) == (self.where, self.iteration):
            raise ValueError("a bug")

    def begin(self, client: Client) -> Correction | None:
        self.fail("begin", client.iteration)
        if self.where == "shift":
            return Correction(shift={"nothing": np.zeros(1)})
        return None

    def end(self, client: Client) -> Upload:
        self.fail("end", client.iteration)
        extras: Any = {"unknown": np.ones(1)} if self.where == "extras" else {}
        if self.where == "none":
            return Upload(extras=None, weights=None)  # type: ignore[arg-type]
        return Upload(extras=extras, memory={"m": np.array([np.nan])} if self.where == "memory" else {})

    def step(self, round: Round) -> Step:
        self.fail("step", round.iteration)
        return super().step(round)


@pytest.mark.parametrize(
    ("where", "cause"),
    [
        ("begin", "begin: ValueError: a bug"),
        ("end", "end: ValueError: a bug"),
        ("shift", "correction: shift has 'nothing'"),
        ("extras", "extras has an unknown array unknown"),
        ("memory", "memory: m is not finite"),
        ("none", "extras is NoneType, not arrays by name"),
    ],
)
def test_a_fault_in_a_client_names_algorithm_client_and_iteration(where: str, cause: str, make_job: JobFactory) -> None:
    with pytest.raises(ClientError, match=rf"^client \S+ failed in iteration [12]: algorithm Broken .*: {cause}"):
        make_job(algorithm=Broken(where)).run()


def test_a_fault_in_a_step_keeps_the_iterations_before_it(make_job: JobFactory) -> None:
    expected = make_job("right", algorithm=Broken(), iterations=3).run().hash
    job = make_job(algorithm=Broken("step"), iterations=3)
    with pytest.raises(AlgorithmError, match=r"^algorithm Broken where=step .* failed in iteration 2: step: ValueErr"):
        job.run()
    config = job.config.work_dir / "config.json"
    config.write_text(config.read_text().replace("where=step", "where="))
    assert make_job(resume=True).run().hash == expected


def test_errors_pass_from_process_to_process() -> None:
    import pickle

    sent: MindflError = AlgorithmError("FedExP eps=1", 3, "step: a bug", hint="mend it")
    received = pickle.loads(pickle.dumps(sent))
    assert (received.line(), received.algorithm, received.iteration) == (sent.line(), "FedExP eps=1", 3)
