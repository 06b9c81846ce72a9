"""What the logs of Java clients say: the reference's own ones, other languages, pieces, and nonsense."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindfl.real.java_device import judge
from mindfl.real.java_history import history_rows
from mindfl.real.java_log import JavaLog

GOLDEN = Path(__file__).parents[1] / "golden" / "java_client"
FEATURES = 4 * 66_404
FINISHED = "The server's training job is disabled or finished."

#: file -> (task, exit code, state, part of the cause)
VERDICTS = {
    "300_stale_time_exception": ("train", 1, "failed", "exit code 1 ([getWaitTime] waitTime: -24 is not valid"),
    "300_start_in_last_iteration": ("train", 0, "left_out", "it took part in none"),
    "300_update_then_finished_shortpoll": ("train", 0, "failed", f"a failure in iteration 1 ({FINISHED})"),
    "dp_client0_shortpoll": ("train", 0, "succeeded", ""),
    "dsq_client0_shortpoll": ("train", 0, "succeeded", ""),
    "getModel": ("getModel", 0, "succeeded", ""),
    "getModel_unknown_weight_name": ("getModel", 0, "failed", "not saved (Can't get feature for name:fc3.bias"),
    "infer_path_differs_no_names": ("train", 1, "failed", "the parameter of <trainWeightName> is null"),
    "inference": ("inference", 0, "succeeded", ""),
    "inference_data_only_FINE": ("inference", 0, "succeeded", ""),
    "locale_zh_CN": ("single", 0, "failed", "the client knows no task 'single' and did nothing"),
    "nan_loss": ("train", 0, "failed", "[train] train failed, train loss is:NaN"),
    "pw_t3_client0": ("train", 0, "succeeded", ""),
    "signds_client0_shortpoll": ("train", 0, "succeeded", ""),
    "start_safemode_twice": ("train", 0, "failed", "[tryTimeExceedsLimit] the repeated request time exceeds the limit"),
    "tls_mock_expired": ("getModel", 0, "failed", "no answer from the server ([getModel] unsolved error code"),
    "tls_mock_san_other_ip": ("getModel", 0, "failed", "Hostname AnonymousIPnot verified"),
    "train_2epochs_batch16": ("train", 0, "succeeded", ""),
    "train_job_finished": ("train", 0, "failed", f"a failure in iteration 0 ({FINISHED})"),
    "train_no_eval": ("train", 0, "succeeded", ""),
    "train_no_server": ("train", 0, "failed", "Failed to connect to"),
    "train_plain_client0": ("train", 0, "succeeded", ""),
    "train_plain_client1": ("train", 0, "succeeded", ""),
    "unknown_task": ("single", 0, "failed", "did nothing"),
    "wrong_weight_size": ("train", 0, "failed", "Set tensor value failed, name:fc3.bias"),
}


def golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.log").read_bytes()


def read(*pieces: bytes) -> JavaLog:
    log = JavaLog()
    for piece in pieces:
        log.feed(piece)
    log.close()
    return log


def told(log: JavaLog) -> dict[str, object]:
    """Everything a log was read for, in a form to compare (NaN included)."""
    return {name: repr(value) for name, value in vars(log).items() if name not in ("_information", "last_lines")}


class TestRecorded:
    def test_none_is_forgotten(self) -> None:
        if not GOLDEN.is_dir():
            pytest.skip(f"no recorded logs in {GOLDEN}")
        assert {path.stem for path in GOLDEN.glob("*.log")} == set(VERDICTS)

    @pytest.mark.parametrize("name", VERDICTS)
    def test_verdict(self, name: str) -> None:
        task, exit_code, state, cause = VERDICTS[name]
        verdict = judge(read(golden(name)), exit_code, task)
        assert verdict.state == state
        assert cause in verdict.cause and bool(verdict.cause) == (state != "succeeded")

    @pytest.mark.parametrize("name", VERDICTS)
    def test_an_exit_code_that_is_not_0_is_a_failure_whatever_the_log_says(self, name: str) -> None:
        verdict = judge(read(golden(name)), -9, VERDICTS[name][0])
        assert verdict.state == "failed" and "it was ended by SIGKILL" in verdict.cause

    @pytest.mark.parametrize("name", [name for name, verdict in VERDICTS.items() if verdict[2] == "succeeded"])
    def test_a_log_that_is_cut_off_is_no_success(self, name: str) -> None:
        """Everything but the last records: the client was killed, or the disk was full."""
        content = golden(name)
        mark = {"train": b"=====the total response of", "getModel": b"==retCode", "inference": b"inference finish"}
        task = VERDICTS[name][0]
        assert judge(read(content[: content.rindex(mark[task])]), 0, task).state == "failed"

    def test_iterations_and_accuracies(self) -> None:
        """Both clients of the plain job; their evaluations of iteration 2 are of iteration 1's model."""
        logs = {f"client {i}": read(golden(f"train_plain_client{i}")) for i in range(2)}
        first, second = history_rows(logs, {"client 0": 0.5, "client 1": 1.0})
        assert (first.iteration, first.clients, first.samples, first.steps) == (1, 2, 96, 3)
        assert first.loss == pytest.approx((32 * 4.125 + 64 * 4.12) / 96)
        assert second.loss == pytest.approx((32 * 4.025 + 64 * 4.02) / 96)
        assert first.accuracies == {"client 0": 0.75, "client 1": 0.75}
        assert (second.avg, second.top5) == (0.75, 0.75) and second.accuracies["client 0"] == 0.5
        assert (first.bytes_up, first.bytes_down) == (2 * FEATURES, 4 * FEATURES)
        assert (first.learning_rate, second.learning_rate) == (0.01, 0.01)
        assert first.seconds == pytest.approx(10.3, abs=0.1) and first.steps_per_s == pytest.approx(0.3)

    @pytest.mark.parametrize(
        ("losses", "final", "aggregated"),
        [
            ([("4.5", "4.25")] * 2, 0.5, [False, False]),
            ([("4.5", "4.25")] * 2, 0.75, [False, True]),
            ([("4.5", "4.25"), ("3.5", "3.25")], 0.5, [True, True]),
            ([("4.5", "4.5")] * 2, 0.5, [True, True]),
        ],
        ids=["failed", "failed-then-counted", "counted", "constant-losses"],
    )
    def test_iterations_that_repeat_what_the_one_before_did(
        self, losses: list[tuple[str, str]], final: float, aggregated: list[bool]
    ) -> None:
        text = "".join(
            iteration(number, 2, loss=first)
            + record(f"----------epoch:1,average loss:{second}----------")
            + total(number)
            for number, (first, second) in enumerate(losses, 1)
        )
        rows = history_rows({"f0": read(text.encode())}, {"f0": final})
        assert [row.aggregated for row in rows] == aggregated

    def test_without_evaluation_data(self) -> None:
        (row,) = history_rows({"client": read(golden("train_no_eval"))})
        assert math.isnan(row.avg) and row.accuracies == {} and row.loss == pytest.approx(4.115)

    def test_epochs(self) -> None:
        done = read(golden("train_2epochs_batch16")).completed[1]
        assert (done.losses, done.steps, done.data_size, done.accuracy) == ([4.1, 4.04], 12, 96, 0.75)

    @pytest.mark.parametrize(
        ("name", "up", "down"),
        [("dsq_client0_shortpoll", 27_648, 67_144 + 66_896), ("signds_client0_shortpoll", 1_000, 2 * FEATURES)],
    )
    def test_compressed_messages_count_as_they_are(self, name: str, up: int, down: int) -> None:
        done = read(golden(name)).completed[1]
        assert (done.bytes_up, done.bytes_down) == (up, down)

    def test_predicted_labels(self) -> None:
        labels = read(golden("inference_data_only_FINE")).labels
        assert labels is not None and len(labels) == 32 and labels[:3] == (0, 2, 4)
        assert read(golden("inference")).labels is None

    def test_the_last_lines_are_not_the_dates(self) -> None:
        lines = read(golden("infer_path_differs_no_names")).last_lines
        assert lines[-1] == 'Exception in thread "main" java.lang.IllegalArgumentException'
        assert len(lines) == 3 and not any("\tat" in line or "2026 8:" in line for line in lines)

    @pytest.mark.parametrize("name", VERDICTS)
    def test_other_languages(self, name: str) -> None:
        """Levels as German Java writes them, dates as Chinese Java does."""
        text = golden(name).decode()
        words = {"INFO: ": "INFORMATION: ", "SEVERE: ": "SCHWERWIEGEND: ", "WARNING: ": "WARNUNG: ", "FINE: ": "FEIN: "}
        for english, german in words.items():
            text = text.replace(f"\n{english}", f"\n{german}")
        text = text.replace("Nov 22, 2026", "11月 22, 2026").replace(" AM com.", " 上午 com.")
        assert told(read(text.encode())) == told(read(golden(name)))

    @settings(max_examples=30, deadline=None)
    @given(st.data())
    def test_pieces(self, data: st.DataObject) -> None:
        """A log that is read while it is written gives the same as one that is read whole."""
        content = golden("nan_loss")
        cuts = data.draw(st.lists(st.integers(0, len(content)), max_size=20))
        ends = [0, *sorted(cuts), len(content)]
        assert told(read(*(content[a:b] for a, b in pairwise(ends)))) == told(read(content))


def record(text: str, level: str = "INFO") -> str:
    return f"Nov 22, 2026 7:53:08 AM com.mindspore.flclient.SyncFLJob flRunLoop\n{level}: <FLClient> {text}\n"


def total(number: int, outcome: str = "SUCCESS") -> str:
    return record(f"{'=' * 56}the total response of {number}: {outcome}{'=' * 70}")


def iteration(number: int, of: int, accuracy: str = "0.5", loss: str = "4.0") -> str:
    return "".join(
        record(text)
        for text in (
            "==========set input===========",
            "[startFLJob] the train data size: 64",
            f"[startFLJob] the GlobalParameter <iterations> from server: {of}",
            f"[startFLJob] startFLJob succeed, curIteration: {number}",
            f"[evaluate] evaluate acc: {accuracy}",
            f"----------epoch:0,average loss:{loss}----------",
            "[updateModel] updateModel success",
        )
    )


class TestWritten:
    @pytest.mark.parametrize(
        ("text", "loss"),
        [("4.1258564", 4.1258564), ("1.0E-8", 1e-8), ("3.4E38", 3.4e38), ("-0.5", -0.5), ("Infinity", math.inf)],
    )
    def test_java_numbers(self, text: str, loss: float) -> None:
        assert read((iteration(1, 1, loss=text) + total(1)).encode()).completed[1].losses == [loss]

    def test_the_tutorials_epoch_line_has_a_blank(self) -> None:
        line = record("----------epoch:0,average loss:4.1258564 ----------")
        assert read(line.encode()).current.losses == [4.1258564]

    @pytest.mark.parametrize("text", ["NaN", "nonsense", "1.2.3"])
    def test_accuracies_that_are_no_numbers(self, text: str) -> None:
        assert math.isnan(read(iteration(1, 1, accuracy=text).encode()).accuracies[1])

    def test_success_needs_all_iterations(self) -> None:
        log = read((iteration(1, 3) + total(1)).encode())
        assert "it ended after iteration 1 of 3" in judge(log, 0, "train").cause

    def test_a_later_iteration_that_was_begun_counts(self) -> None:
        log = read((iteration(1, 2) + total(1) + iteration(2, 2)).encode())
        assert judge(log, 0, "train").state == "failed" and list(log.completed) == [1]

    def test_a_repeated_iteration_counts_once(self) -> None:
        again = iteration(1, 1, accuracy="0.25", loss="2.0")
        log = read((iteration(1, 1) + again + total(1)).encode())
        (row,) = history_rows({"client": log})
        assert (row.loss, row.samples, judge(log, 0, "train").state) == (2.0, 64, "succeeded")

    def test_left_out_after_some_iterations(self) -> None:
        waits = record("[startFLJob] out of time: need wait and request startFLJob again")
        end = record("[onFlJobFinished] modelName: x iterationCount: 2 resultCode: 300")
        log = read((iteration(1, 2) + total(1) + record("==========set input===========") + waits + end).encode())
        verdict = judge(log, 0, "train")
        assert verdict.state == "left_out" and "it took part in 1 iteration" in verdict.cause

    def test_clients_of_different_iterations(self) -> None:
        """A server that wants one client per iteration takes them in turn."""
        logs = {
            "a": read((iteration(1, 2) + total(1)).encode()),
            "b": read((iteration(2, 2, accuracy="0.75") + total(2)).encode()),
        }
        first, second = history_rows(logs)
        assert (first.clients, dict(first.accuracies), second.clients) == (1, {"b": 0.75}, 1)

    def test_complaints_are_the_first_and_the_last(self) -> None:
        lines = [record("fine")] + [record(f"complaint {i}", "SEVERE") for i in range(100)]
        assert read("".join(lines).encode()).causes == ["complaint 0", "complaint 1", "complaint 99"]

    @pytest.mark.parametrize("level", ["FINE", "FEIN", "详细", "普通"])
    def test_fine_records_are_no_complaints(self, level: str) -> None:
        assert read((record("first") + record("a detail", level)).encode()).causes == []

    def test_a_crash_report(self) -> None:
        content = b"#\n# A fatal error has been detected by the Java Runtime Environment:\n#\n#  SIGSEGV (0xb)\n"
        log = read(content)
        assert not log.speaks and "SIGSEGV" in judge(log, -6, "train").cause
        assert "it was ended by SIGABRT" in judge(log, -6, "train").cause

    def test_an_empty_log(self) -> None:
        assert "without a word" in judge(read(), 0, "train").cause
        assert history_rows({"client": read()}) == []

    def test_windows_line_ends(self) -> None:
        text = iteration(1, 1) + total(1)
        assert told(read(text.replace("\n", "\r\n").encode())) == told(read(text.encode()))

    def test_a_line_without_end_is_not_kept_whole(self) -> None:
        log = JavaLog()
        for _ in range(40):
            log.feed(b"x" * (1 << 18))
        assert len(log._rest) <= 1 << 20
        log.feed(("\n" + total(1)).encode())
        assert log.succeeded

    @given(st.binary(max_size=300))
    def test_nonsense(self, content: bytes) -> None:
        log = read(content)
        assert judge(log, 0, "train").state == "failed"

    @given(
        st.lists(
            st.one_of(
                st.sampled_from([iteration(1, 2), total(1), total(2, "FAILED"), "\n", record("x", "SEVERE")]),
                st.builds(
                    "INFO: <FLClient> {}{}\n".format,
                    st.sampled_from(
                        [
                            "[startFLJob] the train data size: ",
                            "=the total response of ",
                            "[evaluate] evaluate acc: ",
                            "-epoch:0,average loss:",
                            "[getModel] ==retCode: ",
                            "[model inference] the predicted labels: [",
                        ]
                    ),
                    st.text(max_size=40),
                ),
            ),
            max_size=12,
        )
    )
    def test_almost_right_lines(self, lines: list[str]) -> None:
        """Never an exception, and no success that the log does not claim."""
        log = read("".join(lines).encode(errors="surrogatepass"))
        history_rows({"client": log})
        if judge(log, 0, "train").state == "succeeded":
            assert log.completed
