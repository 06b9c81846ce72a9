"""Rounds of the stand-in for the Java client against the embedded server."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from java_programs import WEIGHTS, Jars, served

from mindfl.data import open_dataset
from mindfl.sim import History
from mindfl.sim.callbacks import Progress
from mindfl.sim.history import HistoryFiles

VALUE_BYTES = 4 * sum(values.size for values in WEIGHTS.values())


def stored_samples(bins: Path, count: int) -> list[int]:
    """Samples in the training bins of the first users: those that fill the last batch count for a Java client."""
    dataset = open_dataset(bins)
    return [
        sum(path.stat().st_size for path in (bins / user).glob("*_train_label.bin")) // 4
        for user in dataset.users[:count]
    ]


def expected_weights(sizes: list[int], iterations: int) -> dict[str, np.ndarray]:
    """What the stand-in's clients make of the initial weights: client i adds (i + 1) / 64 in each iteration."""
    step = sum(size * (index + 1) / 64 for index, size in enumerate(sizes)) / sum(sizes)
    return {name: values + iterations * step for name, values in WEIGHTS.items()}


@pytest.mark.parametrize("tutorial", [True, False], ids=["tutorial", "0.1.0"])
def test_eight_clients_complete_a_round(make_clients, bins: Path, tutorial: bool) -> None:
    with served() as server:
        outcomes = make_clients(8, tutorial=tutorial, domain_name=server.url).run()

    assert [outcome.index for outcome in outcomes if outcome.succeeded] == list(range(8))
    assert [outcome.iterations for outcome in outcomes] == [(1,)] * 8
    (record,) = server.records
    assert (record.valid, record.uploads) == (True, 8)
    for name, values in expected_weights(stored_samples(bins, 8), 1).items():
        np.testing.assert_allclose(record.model[name], values, atol=1e-6)


def test_the_logs_give_the_history(make_clients, bins: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    said: list[str] = []
    with served(fl_iteration_num=3, start_fl_job_threshold=3) as server:
        clients = make_clients(3, domain_name=server.url, observer=seen.append, report=said.append)
        outcomes = clients.run()
    names, sizes = [outcome.name for outcome in outcomes], stored_samples(bins, 3)
    final = dict.fromkeys(names, 0.5)

    rows = clients.rows(final)
    assert [row.iteration for row in rows] == [1, 2, 3]
    for row in rows:
        assert (row.clients, row.samples, row.steps) == (3, sum(sizes), sum(2 * (size // 32) for size in sizes))
        assert row.loss == pytest.approx(4 - row.iteration / 8)
        assert row.bytes_up == 3 * VALUE_BYTES and row.bytes_down == 2 * row.bytes_up
        assert row.seconds > 0 and row.steps_per_s > 0
    # The log of iteration k + 1, (k / 4 + index / 100), has the accuracy of iteration k's model.
    assert rows[0].accuracies == pytest.approx(dict(zip(names, (0.25, 0.26, 0.27), strict=True)))
    assert rows[1].accuracies == pytest.approx(dict(zip(names, (0.5, 0.51, 0.52), strict=True)))
    assert rows[2].accuracies == final
    assert (rows[0].avg, rows[0].top5, rows[2].low5) == pytest.approx((0.26, 0.26, 0.5))
    assert math.isnan(clients.rows()[-1].avg)

    files = HistoryFiles(tmp_path)
    files.begin()
    for row in rows:
        files.append(row)
    assert [row.avg for row in History.load(files.jsonl)] == [row.avg for row in rows]
    assert {(each.iteration, each.clients, each.iterations) for each in seen} == {(k, 3, 3) for k in (1, 2, 3)}
    assert [each.clients_done for each in seen if each.iteration == 2] == [1, 2, 3]
    assert any(line.startswith("iteration 3/3: 3 of 3 Java clients uploaded") for line in said)


def test_each_client_has_a_folder_and_a_log(make_clients, tmp_path: Path) -> None:
    log = tmp_path / "run" / "client_1" / "client.log"
    log.parent.mkdir(parents=True)
    log.write_text("of an earlier run\n")
    with served(start_fl_job_threshold=2) as server:
        clients = make_clients(2, domain_name=server.url)
        outcomes = clients.run()
    assert [outcome.log for outcome in outcomes] == [log.parent.parent / f"client_{i}" / "client.log" for i in (0, 1)]
    assert "of an earlier run" not in log.read_text() and "total response of 1: SUCCESS" in log.read_text()
    received = (log.parent / "arguments.txt").read_text().splitlines()
    assert received == clients.commands[1][-22:]
    assert received[5].endswith("lenet_train1.ms")
    assert list((tmp_path / "run" / "processes").glob("*.json")) == []


def test_only_so_many_at_once(make_clients) -> None:
    """Jobs of one client each: with a limit of one, none overlaps with another."""
    with served(start_fl_job_threshold=1, fl_iteration_num=3) as server:
        said: list[str] = []
        clients = make_clients(3, task="getModel", parallel=1, domain_name=server.url, report=said.append)
        outcomes = clients.run()
    assert all(outcome.succeeded for outcome in outcomes)
    times = [(outcome.log.parent / "arguments.txt").stat().st_mtime_ns for outcome in outcomes]
    ends = [outcome.log.stat().st_mtime_ns for outcome in outcomes]
    assert all(begin >= end for begin, end in zip(times[1:], ends[:-1], strict=True))
    assert not any("warning" in line for line in said)


def test_a_limit_that_lets_no_iteration_end_is_warned_about(make_clients) -> None:
    said: list[str] = []
    with served(start_fl_job_threshold=1) as server:
        make_clients(1, parallel=1, domain_name=server.url, report=said.append).run()
        assert not any("warning" in line for line in said)
        with pytest.raises(Exception, match="job is disabled or finished"):
            make_clients(2, parallel=1, domain_name=server.url, report=said.append).run()
    assert any("warning: 1 of 2 Java clients run at a time" in line for line in said)


@pytest.mark.parametrize(("country", "word"), [("CN", "信息"), ("", "INFORMATION")], ids=["zh_CN", "de"])
def test_logs_in_other_languages(make_clients, country: str, word: str) -> None:
    language = ("zh", "CN") if country else ("de", "DE")
    options = (f"-Duser.language={language[0]}", f"-Duser.country={language[1]}")
    with served(start_fl_job_threshold=2, fl_iteration_num=2) as server:
        clients = make_clients(2, domain_name=server.url, jvm_options=options)
        outcomes = clients.run()
    assert all(outcome.succeeded for outcome in outcomes)
    assert f"{word}: <FLClient> " in outcomes[0].log.read_text()
    assert [row.clients for row in clients.rows()] == [2, 2]


def test_a_case_class_on_the_module_path(make_clients, jars: Jars) -> None:
    """The tutorial's form starts with JDK 17, and further options reach the virtual machine."""
    with served(start_fl_job_threshold=1) as server:
        clients = make_clients(1, tutorial=True, domain_name=server.url, mode="class", jvm_options=("-Dx=y",))
        (outcome,) = clients.run()
    assert outcome.succeeded
    assert clients.commands[0][:5] == [
        "java",
        "-Xmx64m",
        "-Dstandin.mode=class",
        "-Dx=y",
        f"--module-path={jars.client.parent}:{jars.case.parent}",
    ]


def test_inference(make_clients) -> None:
    """The labels are logged at a level that Java shows only when told to."""
    outcomes = make_clients(2, task="inference", domain_name=None).run()
    assert [(outcome.succeeded, outcome.labels) for outcome in outcomes] == [(True, (0, 0, 61)), (True, (0, 1, 61))]


def test_inference_whose_log_holds_no_labels(make_clients, tmp_path: Path) -> None:
    """The user's own options come last."""
    own = tmp_path / "own.properties"
    own.write_text("handlers = java.util.logging.ConsoleHandler\n.level = INFO\n")
    options = (f"-Djava.util.logging.config.file={own}",)
    (outcome,) = make_clients(1, task="inference", domain_name=None, jvm_options=options).run()
    assert (outcome.succeeded, outcome.labels) == (True, None)


@pytest.mark.parametrize(("task", "left"), [("train", False), ("getModel", True)])
def test_a_backup_of_an_earlier_job(make_clients, tmp_path: Path, task: str, left: bool) -> None:
    """A client would go back to it, when its loss is no number, instead of making one of its own."""
    with served(start_fl_job_threshold=1) as server:
        clients = make_clients(1, task=task, domain_name=server.url)
        backup = tmp_path / "ms" / "bak_lenet_train0.ms"
        backup.write_bytes(b"of an earlier job")
        clients.run()
    assert backup.exists() == left


def test_paths_with_spaces_and_other_scripts(make_clients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in a locale in which Java would not understand them."""
    monkeypatch.setenv("LC_ALL", "C")
    moved = tmp_path / "模型 in a folder"
    with served(start_fl_job_threshold=1) as server:
        clients = make_clients(1, domain_name=server.url, models=moved, work_dir=tmp_path / "工作 folder")
        (outcome,) = clients.run()
    assert outcome.succeeded and outcome.log.is_relative_to(tmp_path / "工作 folder")
    assert str(moved / "lenet_train0.ms") in (outcome.log.parent / "arguments.txt").read_text(encoding="utf-8")
