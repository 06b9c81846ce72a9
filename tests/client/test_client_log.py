"""The file client.log: format, faults, and its likeness to a log of the real device client."""

import errno
import os
import re
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from client_standins import Clock, StandInTrainer, device, server

import mindfl.client
from mindfl.client import ClientLog, InProcessTransport, advance, run
from mindfl.client.log_lines import EVENTS
from mindfl.errors import ClientError, ProtocolError, StorageError, TransportError
from mindfl.protocol import PlainText

MORNING = datetime(2026, 11, 22, 7, 44, 19)
GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden" / "java_client"


def new_log(path, **options):
    return ClientLog(path / "client.log", lambda: MORNING, **options)


def run_job(log, trainer=None, clients=1, iterations=2, client_options=None, **server_options):
    """Run a job of ``clients`` clients, the first of which logs; return that client's result."""
    coordinator, _ = server(clients, iterations, **server_options)
    transport, clock = InProcessTransport(coordinator), Clock()
    flows = [device("f0", trainer, clock, log, **(client_options or {})).train()]
    flows += [device(f"f{i}", StandInTrainer(), clock).train() for i in range(1, clients)]
    while True:
        steps = [advance(flow, transport, clock) for flow in flows]
        if hasattr(steps[0], "result"):
            return steps[0].result


def records(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    heads = [
        i for i, line in enumerate(lines) if re.match(r"\w{3} \d+, \d{4} \d+:\d\d:\d\d [AP]M com\.mindspore", line)
    ]
    return [(lines[i].split()[-2], lines[i].split()[-1], "\n".join(lines[i + 1 : j]))
            for i, j in zip(heads, [*heads[1:], len(lines)], strict=True)]  # fmt: skip


def test_two_line_records_exactly(tmp_path):
    log = new_log(tmp_path)
    log.record("SyncFLJob flJobRun", "flJobRun start")
    log.record("demo.lenet.LenetDataSet padding", "total samples:32", prefix="")
    log.record("FLLiteClient failed", "[train] failed", level="SEVERE")
    assert not log.path.exists()

    log.flush()
    log.flush()

    assert log.path.read_text() == (
        "Nov 22, 2026 7:44:19 AM com.mindspore.flclient.SyncFLJob flJobRun\n"
        "INFO: <FLClient> flJobRun start\n"
        "Nov 22, 2026 7:44:19 AM com.mindspore.flclient.demo.lenet.LenetDataSet padding\n"
        "INFO: total samples:32\n"
        "Nov 22, 2026 7:44:19 AM com.mindspore.flclient.FLLiteClient failed\n"
        "SEVERE: <FLClient> [train] failed\n"
    )


def test_later_tasks_append_to_the_same_file(tmp_path):
    for text in ("one", "two"):
        log = new_log(tmp_path)
        log.record("A b", text)
        log.flush()

    assert [text for _, _, text in records(log.path)] == ["INFO: <FLClient> one", "INFO: <FLClient> two"]


def test_paths_with_spaces_and_non_ascii_letters_and_missing_folders(tmp_path):
    log = ClientLog(tmp_path / "mein Ordner" / "客户端_0" / "client.log", lambda: MORNING)
    log.record("A b", "größe")
    log.flush()

    assert log.path.read_text(encoding="utf-8").endswith("INFO: <FLClient> größe\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_one_clear_line(tmp_path):
    (tmp_path / "client.log").symlink_to("/dev/full")
    log = new_log(tmp_path)
    log.record("A b", "text")

    with pytest.raises(StorageError, match=r"cannot write .*client\.log") as raised:
        log.flush()
    assert "disk is full" in raised.value.line()


def test_a_disk_that_fills_up_in_the_middle_of_a_write_leaves_no_half_record(tmp_path, monkeypatch):
    log = new_log(tmp_path)
    log.record("A b", "first")
    log.flush()
    before = log.path.read_bytes()
    write, sizes = os.write, []

    def short(file, data):
        sizes.append(len(data))
        if len(sizes) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data[:10])

    monkeypatch.setattr(os, "write", short)
    log.record("A b", "second")
    with pytest.raises(StorageError, match="No space left"):
        log.flush()
    monkeypatch.undo()

    assert log.path.read_bytes() == before
    log.flush()
    assert [text for _, _, text in records(log.path)] == ["INFO: <FLClient> first", "INFO: <FLClient> second"]


def test_a_log_path_that_is_a_folder(tmp_path):
    (tmp_path / "client.log").mkdir()
    log = new_log(tmp_path)
    log.record("A b", "text")

    with pytest.raises(StorageError, match=r"client\.log"):
        log.flush()


def test_the_greps_of_the_tutorial_find_their_lines(tmp_path):
    log = new_log(tmp_path)
    trainer = StandInTrainer(train_size=64, losses=[4.1258564, 3.0])
    run_job(log, trainer)
    device("f0", StandInTrainer(), Clock(), log).inference()

    text = log.path.read_text()

    assert "INFO: <FLClient> ----------epoch:0,average loss:4.1208563----------\n" in text
    assert text.count("average loss:") == 2
    # Model 0, then each aggregated model once.
    assert text.count("INFO: <FLClient> [evaluate] evaluate acc: 0.75\n") == 3
    assert "INFO: <FLClient> [model inference] the predicted labels: [0, 0, 1, 2]\n" in text
    assert text.count("INFO: <FLClient> [getModel] get response from server ok!\n") == 2


def test_a_brief_log_has_epochs_but_no_batches(tmp_path):
    full, brief = new_log(tmp_path / "full"), new_log(tmp_path / "brief", brief=True)
    for log in (full, brief):
        run_job(log, StandInTrainer(train_size=96))

    with_batches = [text for _, _, text in records(full.path)]
    without = [text for _, _, text in records(brief.path)]
    assert sum("batch:" in text for text in with_batches) == 6
    assert [text for text in with_batches if "> batch:" not in text] == without


def test_a_failed_training_is_logged_like_the_references(tmp_path):
    log = new_log(tmp_path)
    with pytest.raises(ClientError):
        run_job(log, StandInTrainer(losses=[float("nan")]), client_options={"model_file": "train_2.ms"})

    tail = [text for _, _, text in records(log.path)][-6:]
    assert tail == [
        "SEVERE: <FLClient> [train] train failed, train loss is:NaN",
        "INFO: <FLClient> [train] train failed",
        "INFO: <FLClient> " + "=" * 41 + "the total response of 1: FAILED" + "=" * 41,
        "INFO: <FLClient> [onFlJobIterationFinished] modelName: com.mindspore.flclient.demo.lenet.LenetClient "
        "iterationSeq: 1 resultCode: 400",
        "INFO: <FLClient> flJobRun finish",
        "INFO: <FLClient> [onFlJobFinished] modelName: com.mindspore.flclient.demo.lenet.LenetClient "
        "iterationCount: 2 resultCode: 400",
    ]


def normalised(path):
    """Records without what depends on the moment: times and durations."""
    moments = [
        (r"(next request time|==========time): \d+", r"\1: T"),
        (r"(total run time:|cost |(compression|signds) time is )\d+ms", r"\1Tms"),
    ]
    for class_name, method, text in records(path):
        for pattern, replacement in moments:
            text = re.sub(pattern, replacement, text)
        yield class_name, method, text


def missing_from(reference, lines):
    """The lines that do not follow one another in ``reference`` (anything may stand between them)."""
    rest = iter(reference)
    return [line for line in lines if line not in rest]


def golden(name):
    path = GOLDEN / name
    if not path.exists():
        pytest.skip(f"needs the recorded log {name} beside the repository")
    return list(normalised(path))


def test_every_line_of_a_training_job_stands_in_the_real_clients_log_in_the_same_order(tmp_path):
    reference = golden("train_plain_client0.log")
    log = new_log(tmp_path)
    options = {
        "model_file": "/data/train_0.ms",
        "train_data": "/data/f0000_bn_1_train_label.bin",
        "eval_data": "/data/f0000_bn_1_test_label.bin",
        "evaluate_aggregated": False,
    }
    run_job(
        log,
        StandInTrainer(),
        clients=2,
        client_options=options,
        weights={"w": np.zeros(66_404, np.float32)},
        client_learning_rate=0.01,
    )

    lines = list(normalised(log.path))
    # The compression settings of that server; compression is off in both.
    rate = [line for line in lines if "uploadSparseRate" in line[2]]
    lines = [line for line in lines if line not in rate]

    assert missing_from(reference, lines) == []
    assert len(lines) > 120


def test_what_the_real_client_says_and_this_one_does_not(tmp_path):
    """Only lines about things that this client does not do are left out."""
    reference = golden("train_plain_client0.log")
    log = new_log(tmp_path)
    run_job(log, StandInTrainer(), clients=2, client_options={"evaluate_aggregated": False})

    sources = {line[:2] for line in normalised(log.path)}
    left_out = {f"{class_name.split('.')[-1]} {method}" for class_name, method, _ in reference} - {
        f"{class_name.split('.')[-1]} {method}" for class_name, method in sources
    }

    assert left_out == {
        "SyncFLJob msVersionCheck",
        "Common getRealPath",
        "Common checkPath",
        "Common setIsHttps",
        "SyncFLJob initFlIDForPkiVerify",
        "FLParameter getCpuBindMode",
        "Client backupModelFile",
        "FLCommunication getOkHttpClient",
        "Common startTime",
        "Common endTime",
        "ClassifierAccuracyCallback calAccuracy",
        "ClassifierAccuracyCallback calClassifierResult",
    }


def test_two_epochs_in_batches_of_16(tmp_path):
    reference = golden("train_2epochs_batch16.log")
    log = new_log(tmp_path)
    trainer = StandInTrainer(train_size=96, batch_size=16)
    run_job(log, trainer, iterations=1, client_epoch_num=2, client_batch_size=16)

    def training(lines):
        return [line for line in lines if "LossCallback" in line[0]]

    assert training(normalised(log.path)) == training(reference)
    assert len(training(reference)) == 14


def test_a_job_without_test_data(tmp_path):
    reference = golden("train_no_eval.log")
    log = new_log(tmp_path)
    trainer = StandInTrainer(train_size=96, eval_size=0)
    run_job(
        log,
        trainer,
        iterations=1,
        client_options={"train_data": "f0002_bn_3_train_label.bin"},
        weights={"w": np.zeros(66_404, np.float32)},
        client_learning_rate=0.01,
    )

    lines = [line for line in normalised(log.path) if "uploadSparseRate" not in line[2]]
    # That run saw one 201 first; ours is alone and gets the model at once.
    assert missing_from(reference, lines) == []


def test_get_model(tmp_path):
    reference = golden("getModel.log")
    log = new_log(tmp_path)
    coordinator, _ = server()
    run(device("f0", StandInTrainer(), Clock(), log).get_model(), InProcessTransport(coordinator), Clock(), None)

    lines = [line for line in normalised(log.path) if "createDatasetMap" not in line[1]]
    assert missing_from(reference, lines) == []
    assert len(lines) == 13


def test_a_job_that_is_over_already(tmp_path):
    reference = golden("train_job_finished.log")
    log = new_log(tmp_path)
    coordinator, _ = server()
    coordinator.job.disable(0)
    sizes = [re.search(r"data size: (\d+)", text) for _, _, text in reference]
    train_size, eval_size = (int(found.group(1)) for found in sizes if found)
    trainer = StandInTrainer(train_size, eval_size)
    run(device("f0", trainer, Clock(), log).train(), InProcessTransport(coordinator), Clock(), None)

    lines = [line for line in normalised(log.path) if "createDatasetMap" not in line[1]]
    assert missing_from(reference, lines) == []
    assert lines[-1][2].endswith("iterationCount: 1 resultCode: 500")


class NoFiles:
    """Model files that do not exist."""

    def back_up(self):
        pass

    def restore(self):
        pass


def test_a_loss_that_is_not_a_number(tmp_path):
    reference = golden("nan_loss.log")
    log = new_log(tmp_path)

    class Diverging(StandInTrainer):
        def train(self, epochs, learning_rate, report):
            report(0, [4.125, float("nan"), 4.105])
            return float("nan")

    with pytest.raises(ClientError):
        run_job(
            log,
            Diverging(train_size=96),
            iterations=1,
            client_options={"model_file": "/path/to/train_2.ms", "files": NoFiles()},
            weights={"w": np.zeros(66_404, np.float32)},
            client_learning_rate=0.01,
        )

    different = ("the trainDataPath", "the evalDataPath", "the inferDataPath", "uploadSparseRate")
    lines = [line for line in normalised(log.path) if not any(text in line[2] for text in different)]
    assert missing_from(reference, lines) == []
    files = [line[1] for line in lines if line[0].endswith("model.Client")]
    assert files == ["backupModelFile", "restoreModelFile", "restoreModelFile"]


def test_a_server_that_is_not_there(tmp_path):
    reference = golden("train_no_server.log")
    log = new_log(tmp_path)

    class Nobody:
        def send(self, request, now_ms):
            raise TransportError("Failed to connect to /AnonymousIP")

    with pytest.raises(TransportError):
        run(device("f0", StandInTrainer(), Clock(), log).train(), Nobody(), Clock(), None)

    lines = [line for line in normalised(log.path) if "createDatasetMap" not in line[1]]
    assert missing_from(reference, lines) == []
    assert len(lines) > 10


def test_safemode_until_the_client_gives_up(tmp_path):
    reference = golden("start_safemode_twice.log")
    log = new_log(tmp_path)

    class NotReady:
        def send(self, request, now_ms):
            return PlainText("The cluster is in safemode.")

    client = device("f0", StandInTrainer(), clock := Clock(), log, max_restarts=1, poll_ms=10_000)
    with pytest.raises(ProtocolError):
        run(client.train(), NotReady(), clock, clock.sleep)

    lines = [line for line in normalised(log.path) if "createDatasetMap" not in line[1]]
    failed = [line for line in lines if "SyncFLJob" in line[0] and line[1] == "failed"]
    assert missing_from(reference, [line for line in lines if line not in failed and "400" not in line[2]]) == []
    assert sum("isSeverReady" in line[1] for line in lines) == 4


def test_every_event_of_the_table_is_written_somewhere():
    code = "".join(path.read_text() for path in Path(mindfl.client.__file__).parent.glob("*.py"))
    assert [name for name in EVENTS if f'"{name}"' not in code] == []


def test_every_event_that_is_written_is_in_the_table():
    code = "".join(path.read_text() for path in Path(mindfl.client.__file__).parent.glob("*.py"))
    calls = re.findall(r'\.add\(\s*((?:"\w+",?\s*)+)', code)
    names = {name for call in calls for name in re.findall(r'"(\w+)"', call)}
    assert len(names) > 30
    assert names <= EVENTS.keys()
