"""A sampler and a callback of a user's own: with any workers, under Ray, killed and resumed, and by every name."""

from __future__ import annotations

import ast
import csv
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from early_stopping import EarlyStopping
from folder_contents import contents
from poisson import Poisson

from mindfl.algorithms import Uniform
from mindfl.errors import OptionError, SimulationError
from mindfl.lite import LiteModel
from mindfl.server import Coordinator, ServerConfig
from mindfl.server.http import BackgroundServer
from mindfl.sim import FederatedLeNetJob, History, JobConfig
from mindfl.sim.run_record import RunRecord

HERE = Path(__file__).parent
Make = Callable[..., FederatedLeNetJob]
SAMPLED: dict[str, Any] = {"client_num": 5, "iterations": 4, "sampler": Poisson(0.4), "seed": 59}
#: with this seed no client takes part in the second of these iterations
SIZES = [3, 0, 3, 1]


def told(result: Any) -> list[Any]:
    """Return what an uninterrupted run of the same seed must have in common with ``result``."""
    return [
        result.hash,
        [(row.iteration, row.clients, repr(row.loss), repr(row.avg), row.metrics) for row in result.history],
    ]


@pytest.mark.parametrize("name", ["poisson.py", "early_stopping.py"])
def test_a_user_writes_at_most_15_lines(name: str) -> None:
    text = (HERE / name).read_text()
    tree = ast.parse(text)
    aside = {node.lineno for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)} | {1}
    assert sum(bool(line.strip()) for number, line in enumerate(text.splitlines(), 1) if number not in aside) <= 15


class TestCohortsOfVaryingSize:
    def test_any_workers_give_the_same_weights(self, make_job: Make) -> None:
        one, two = make_job("one", workers=1, **SAMPLED).run(), make_job("two", workers=2, **SAMPLED).run()
        assert told(one) == told(two)
        assert [row.clients for row in one.history] == SIZES
        assert f"0 to {max(SIZES)} clients" in one.summary()

    def test_a_round_without_clients_keeps_the_model_and_is_no_failure(self, make_job: Make) -> None:
        class Nobody:
            def sample(self, clients: int, iteration: int, rng: Any, state: Any) -> list[int]:
                return [0, 2] if iteration == 1 else []

        kept: list[dict[str, Any]] = []

        class Models:
            def row(self, row: Any, model: Any) -> None:
                kept.append({name: values.copy() for name, values in model.items()})

        result = make_job(sampler=Nobody(), callbacks=[Models()], evaluate="all", evaluate_every=1).run()
        first, second = result.history
        assert (second.clients, second.samples, second.steps, second.bytes_up, second.aggregated) == (0, 0, 0, 0, True)
        assert math.isnan(second.loss) and second.accuracies == first.accuracies
        assert all(np.array_equal(kept[0][name], kept[1][name]) for name in kept[0])

    def test_killed_and_resumed(self, make_job: Make, tmp_path: Path) -> None:
        """The sampler's state is saved too: it counts the rounds that it drew."""
        named = {**SAMPLED, "sampler": f"{HERE / 'poisson.py'}:Poisson:probability=0.4"}
        callback = f"{HERE / 'early_stopping.py'}:EarlyStopping:patience=9"
        whole = make_job("whole", callbacks=[callback], **named).run()
        job = make_job("killed", callbacks=[callback], **named)
        settings = {"resume": False, "workers": 1, **{name: str(job.config.work_dir) for name in ("work_dir",)}}
        recorded = {**named, **settings, "epochs": 1, "callbacks": [callback]}
        recorded |= {name: str(getattr(job.config, name)) for name in ("train_dataset", "train_model_path")}
        killed = subprocess.run([sys.executable, "-c", KILLED, json.dumps(recorded)], check=False, env=environment())
        assert killed.returncode == -signal.SIGKILL
        assert len(History.load(job.config.work_dir / "history.jsonl")) >= 2

        resumed = make_job("killed", resume=True).run()

        assert told(resumed) == told(whole)
        assert told_by_files(job.config.work_dir) == told_by_files(tmp_path / "whole")

    def test_what_it_costs_in_privacy_follows_from_its_rate(self, make_job: Make, recorder: Any) -> None:
        private = {"encrypt_type": "DP_ENCRYPT", "client_num": 5, "iterations": 1}
        uniform = make_job("uniform", clients_per_iteration=2, **private).run()
        own = make_job("own", sampler=Poisson(0.4), **private).run()
        assert own.history[0].epsilon == uniform.history[0].epsilon

        class Silent:
            def sample(self, clients: int, iteration: int, rng: Any, state: Any) -> list[int]:
                return [1, 3]

        unknown = make_job("unknown", sampler=Silent(), reporter=recorder, **private).run()
        assert unknown.history[0].epsilon == make_job("all", **private).run().history[0].epsilon
        assert unknown.history[0].epsilon > own.history[0].epsilon
        assert any("sampler Silent has no rate(clients)" in text for text in recorder.warnings)


class TestNames:
    @pytest.fixture
    def by_object(self, make_job: Make) -> list[Any]:
        return told(make_job("object", callbacks=[EarlyStopping(9)], **SAMPLED).run())

    @pytest.mark.parametrize(
        ("sampler", "callback"),
        [
            ("poisson:Poisson:probability=0.4", "early_stopping:EarlyStopping:patience=9"),
            (f"{HERE}/poisson.py:Poisson:probability=0.4", f"{HERE}/early_stopping.py:EarlyStopping:patience=9"),
            ("as-installed:probability=0.4", "as-installed:patience=9"),
        ],
        ids=["module", "file", "entry point"],
    )
    def test_every_name_means_the_same(
        self, make_job: Make, by_object: list[Any], installed: None, sampler: str, callback: str
    ) -> None:
        named = {**SAMPLED, "sampler": sampler, "callbacks": [callback]}
        assert told(make_job("named", **named).run()) == by_object

    def test_on_the_command_line(self, make_job: Make, by_object: list[Any], tmp_path: Path) -> None:
        job = make_job("command", **SAMPLED)
        command = [sys.executable, "-c", "from mindfl.cli import main; main()", "simulate", "--json", "--quiet"]
        options = {
            **{name: getattr(job.config, name) for name in ("work_dir", "train_dataset", "train_model_path")},
            **{"client_num": 5, "iterations": 4, "epochs": 1, "seed": 59},
            **{
                "sampler": "poisson.py:Poisson:probability=0.4",
                "callback": "early_stopping.py:EarlyStopping:patience=9",
            },
        }
        given = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        done = subprocess.run([*command, *given], capture_output=True, text=True, cwd=HERE, env=environment())
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["weights_sha256"] == by_object[0]
        recorded = RunRecord.load(job.config.work_dir / "config.json").settings
        assert recorded["sampler"] == f"{HERE}/poisson.py:Poisson:probability=0.4"
        assert recorded["callbacks"] == [f"{HERE}/early_stopping.py:EarlyStopping:patience=9"]

    def test_an_object_is_recorded_so_that_resume_needs_no_name(self, make_job: Make) -> None:
        whole = make_job("whole", callbacks=[EarlyStopping(9)], **SAMPLED).run()
        first = make_job("run", callbacks=[EarlyStopping(9)], **{**SAMPLED, "iterations": 2})
        first.run()
        assert told(make_job("run", resume=True, iterations=4).run()) == told(whole)
        with pytest.raises(OptionError, match=r"--sampler is poisson:Poisson:probability=0\.5, but the run in"):
            make_job("run", resume=True, iterations=5, sampler=Poisson(0.5)).run()

    def test_an_object_that_cannot_be_made_again_is_asked_for(self, make_job: Make) -> None:
        class Local(Poisson):
            pass

        make_job("run", sampler=Local(0.4), iterations=1).run()
        with pytest.raises(OptionError, match="an object that its record cannot make again"):
            make_job("run", resume=True, iterations=2)
        assert len(make_job("run", resume=True, iterations=2, sampler=Local(0.4)).run().history) == 2


class Bad:
    """Returns what it is given."""

    def __init__(self, chosen: Any) -> None:
        self.chosen = chosen

    def sample(self, clients: int, iteration: int, rng: Any, state: dict[str, Any]) -> Any:
        if isinstance(self.chosen, Exception):
            raise self.chosen
        state["object"] = self.chosen if isinstance(self.chosen, set) else None
        return [0, 1] if iteration == 1 else self.chosen


class TestRefusals:
    @pytest.mark.parametrize(
        ("chosen", "words"),
        [
            ([0, 3], "there is no client 3: they are numbered from 0 to 2"),
            ([-1], "there is no client -1"),
            ([1, 0, 1], "client 1 was chosen 2 times"),
            ([0.5], "must be whole numbers, got 0.5"),
            ([True, False, True], "truth values"),
            ([[0, 1]], "array of shape"),
            (["a"], "must be whole numbers"),
            (None, "TypeError"),
            (ValueError("out of luck"), "ValueError: out of luck"),
            ({0}, "its state holds a set"),
        ],
        ids=str,
    )
    def test_a_wrong_cohort_names_sampler_and_iteration(self, make_job: Make, chosen: Any, words: str) -> None:
        with pytest.raises(SimulationError) as failed:
            make_job(sampler=Bad(chosen)).run()
        iteration = 1 if isinstance(chosen, (Exception, set)) else 2
        assert "sampler Bad" in str(failed.value) and f"in iteration {iteration}" in str(failed.value)
        assert words in str(failed.value)

    def test_any_order_is_the_same_cohort(self, make_job: Make) -> None:
        results = [make_job(str(order), sampler=Bad(order)).run() for order in ([2, 0], (0, 2), np.array([0, 2]))]
        assert len({result.hash for result in results}) == 1

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"domain_name": "http://127.0.0.1:9"}, "the server in domain_name chooses its clients"),
            ({"stack": "federated"}, "stack federated needs all clients in each iteration"),
            ({"jar_path": "/a.jar", "case_jar_path": "/b.jar"}, "Java clients all take part"),
            ({"encrypt_type": "PW_EXACT"}, "masks are made for a fixed number of clients"),
            ({"clients_per_iteration": 2}, "both choose the clients"),
            ({"sampler": "unifrom"}, "unknown name 'unifrom'"),
            ({"sampler": Poisson}, "has no method sample"),
            ({"sampler": Poisson(1.5)}, r"rate\(50\) must be a number above 0 and at most 1, got 1.5"),
            ({"sampler": "uniform:cohort=0"}, "cohort must be a whole number of at least 1"),
        ],
    )
    def test_what_a_sampler_does_not_go_with(self, settings: dict[str, Any], words: str) -> None:
        with pytest.raises(OptionError, match=words):
            JobConfig(**{"sampler": Poisson(), **settings})

    @pytest.mark.parametrize(
        ("callback", "words"),
        [
            (object(), "has none of the methods begin, upload, row, end"),
            (EarlyStopping, "has none of the methods"),
            ("early_stopping:Late", "early_stopping has no Late"),
            ("early_stopping:EarlyStopping:patient=1", "EarlyStopping has no setting patient"),
        ],
    )
    def test_what_is_no_callback_leaves_the_earlier_run(self, make_job: Make, callback: Any, words: str) -> None:
        first = make_job(client_num=1, iterations=1)
        first.run()
        folder = first.config.work_dir
        before = contents(folder)
        with pytest.raises(OptionError, match=words):
            make_job(callbacks=[callback], overwrite=True).run()
        assert contents(folder) == before

    def test_uniform_is_clients_per_iteration(self, make_job: Make) -> None:
        given = make_job("given", client_num=5, clients_per_iteration=2).run()
        for name, sampler in {"object": Uniform(2), "name": "uniform:cohort=2"}.items():
            assert make_job(name, client_num=5, sampler=sampler).run().hash == given.hash


class Seeing:
    """Notes what it is called with; raises where it is told to."""

    def __init__(self, raises: str = "") -> None:
        self.raises, self.calls = raises, []

    def begin(self, config: Any, model: Any) -> None:
        self._called("begin", config.client_num, sorted(model))

    def upload(self, progress: Any) -> None:
        self._called("upload", progress.iteration, progress.clients_done)

    def row(self, row: Any, model: Any) -> None:
        self._called("row", row.iteration, sorted(model))

    def end(self, result: Any) -> None:
        self._called("end", len(result.history), None)

    def _called(self, name: str, *values: Any) -> None:
        self.calls.append((name, *values))
        if name == self.raises:
            raise RuntimeError("no luck")


class TestCallbacks:
    def test_each_method_in_its_time(self, make_job: Make) -> None:
        seeing = Seeing()
        result = make_job(callbacks=[seeing]).run()
        names = sorted(result.weights)
        assert seeing.calls == [
            ("begin", 3, names),
            *[("upload", 1, done) for done in (1, 2, 3)],
            ("row", 1, names),
            *[("upload", 2, done) for done in (1, 2, 3)],
            ("row", 2, names),
            ("end", 2, None),
        ]

    @pytest.mark.parametrize(
        ("method", "where"),
        [
            ("begin", "before the first iteration"),
            ("upload", "in iteration 1"),
            ("row", "in iteration 1"),
            ("end", "at the end"),
        ],
    )
    def test_one_that_raises_is_named_with_the_iteration(self, make_job: Make, method: str, where: str) -> None:
        with pytest.raises(
            SimulationError, match=f"^callback Seeing failed {where}: RuntimeError: no luck, in .*, line [0-9]+$"
        ):
            make_job(callbacks=[Seeing(method)]).run()

    def test_a_metric_stands_in_the_history_in_memory_and_on_disk(self, make_job: Make) -> None:
        class Late:
            def row(self, row: Any, model: Any) -> None:
                if row.iteration > 1:
                    row.metrics["late"] = np.float32(0.5)

        job = make_job(callbacks=[EarlyStopping(9), Late()], iterations=3)
        history = job.run().history
        lowest = [min(row.loss for row in history[:count]) for count in (1, 2, 3)]
        assert history.column("lowest_loss") == lowest
        assert [row.metrics.get("late") for row in history] == [None, 0.5, 0.5]
        loaded = History.load(job.config.work_dir / "history.jsonl")
        assert [row.metrics for row in loaded] == [row.metrics for row in history]
        rows = list(csv.DictReader((job.config.work_dir / "history.csv").open()))
        assert [row["lowest_loss"] for row in rows] == [repr(value) for value in lowest]
        assert [row["late"] for row in rows] == ["", "0.5", "0.5"]

    @pytest.mark.parametrize(("name", "value"), [("avg", 1.0), (" ", 1.0), ("mine", "text"), (3, 1.0)])
    def test_a_metric_that_is_none_is_refused(self, make_job: Make, name: Any, value: Any) -> None:
        class Wrong:
            def row(self, row: Any, model: Any) -> None:
                row.metrics[name] = value

        with pytest.raises(SimulationError, match=r"callback Wrong in iteration 1: (a metric cannot be|metric mine)"):
            make_job(callbacks=[Wrong()]).run()

    def test_one_that_stops_ends_the_run_as_finished(self, make_job: Make, recorder: Any) -> None:
        settings = {"callbacks": [EarlyStopping(1, least=9.0)], "iterations": 4}
        job = make_job(**settings)
        result = job.run()
        assert len(result.history) == 2
        assert "ended by EarlyStopping after 2 of 4 iterations" in result.summary()
        assert RunRecord.load(job.config.work_dir / "config.json").iterations == 2

        again = make_job(resume=True, reporter=recorder)
        assert told(again.run()) == told(result)
        assert again.result.summary() == result.summary()
        assert any("EarlyStopping ended the run after iteration 2" in text for text in recorder.stages)

        longer = make_job(resume=True, iterations=6).run()
        assert len(longer.history) == 3, "it goes on, and its state says to stop after one more round"

    def test_a_server_elsewhere_is_left_by_one_that_stops(self, make_job: Make, converted: Callable[..., Path]) -> None:
        plan = ServerConfig(fl_iteration_num=4, start_fl_job_threshold=3)
        coordinator = Coordinator(plan, LiteModel.load(converted("momentum")).weights)
        with BackgroundServer(coordinator) as server:
            job = make_job(domain_name=server.url, callbacks=[EarlyStopping(1, least=9.0)])
            result = job.run()
        assert [row.iteration for row in result.history] == [1, 2]
        assert "ended by EarlyStopping after 2 of 4 iterations" in result.summary()
        rows = list(csv.DictReader((job.config.work_dir / "history.csv").open()))
        assert [row["lowest_loss"] for row in rows] == [repr(result.history[0].loss)] * 2


KILLED = """
import json, os, signal, sys
from mindfl.sim import FederatedLeNetJob
from mindfl.sim.run_state import RunState

save = RunState.save
def saved_and_killed(state, folder):
    save(state, folder)
    if state.iteration == 2:
        os.kill(os.getpid(), signal.SIGKILL)
RunState.save = saved_and_killed
FederatedLeNetJob(**json.loads(sys.argv[1])).run()
"""


def environment() -> dict[str, str]:
    """Return an environment in which a subprocess finds this package, and the modules of this folder."""
    import mindfl

    paths = [str(HERE), str(Path(mindfl.__file__).parents[1])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def told_by_files(folder: Path) -> list[Any]:
    """Return the history in ``folder`` as its files tell it, without times."""
    rows = list(csv.DictReader((folder / "history.csv").open()))
    without = [
        {name: value for name, value in row.items() if "second" not in name and "_s" not in name} for row in rows
    ]
    return [without, [row.metrics for row in History.load(folder / "history.jsonl")]]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the two classes be entry points of an installed package."""
    folder = tmp_path / "site" / "own-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(
        "[mindfl.samplers]\nas-installed = poisson:Poisson\n"
        "[mindfl.callbacks]\nas-installed = early_stopping:EarlyStopping\n"
    )
    monkeypatch.syspath_prepend(str(folder.parent))


@pytest.fixture
def recorder() -> Any:
    """A reporter that keeps stages and warnings."""

    class Recorder:
        def __init__(self) -> None:
            self.stages: list[str] = []
            self.warnings: list[str] = []
            self.stage, self.warning = self.stages.append, self.warnings.append

        def progress(self, progress: object) -> None:
            """Ignore."""

        def row(self, row: object) -> None:
            """Ignore."""

    return Recorder()
