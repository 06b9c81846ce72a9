"""Simulations with secure aggregation."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindfl.errors import ClientError, OptionError
from mindfl.privacy.secagg.ciphers import WordMasks
from mindfl.sim import Result

#: of LeNet
VALUES = 66_404
#: of a client's name, as "synthetic_0000"
NAME = 14
PW, STABLE, EXACT = "PW_ENCRYPT", "STABLE_PW_ENCRYPT", "PW_EXACT"
MODES = (PW, STABLE, EXACT)
#: what takes part in what: all five clients, here or over HTTP, or three drawn anew for each iteration
COHORTS: dict[str, dict[str, Any]] = {
    "all": {"client_num": 5},
    "http": {"client_num": 5, "transport": "http"},
    "sampled": {"client_num": 5, "clients_per_iteration": 3},
}

Train = Callable[..., Result]


@pytest.fixture
def train(make_job: Callable[..., Any]) -> Train:
    """Return a function that trains with an ``encrypt_type`` and other settings."""

    def run(mode: str, **settings: Any) -> Result:
        return make_job(encrypt_type=mode, **settings).run()

    return run


@pytest.fixture(scope="module")
def results() -> dict[str, Result]:
    """What was trained, by mode and settings."""
    return {}


@pytest.fixture
def trained(train: Train, results: dict[str, Result]) -> Train:
    """Return a function that does the same, once for each mode and settings: for tests that need the result only."""

    def run(mode: str, **settings: Any) -> Result:
        asked = repr((mode, sorted(settings.items())))
        if asked not in results:
            results[asked] = train(mode, **settings)
        return results[asked]

    return run


@pytest.fixture
def without_masks(train: Train, results: dict[str, Result]) -> Train:
    """Return a function that trains a cohort with PW_EXACT's fixed point, but with nothing added to it, once."""

    def run(cohort: str) -> Result:
        if cohort in results:
            return results[cohort]
        added = []

        def nothing(masks: WordMasks, total: object, key: bytes, sign: int) -> None:
            added.append(key)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(WordMasks, "add", nothing)
            results[cohort] = train(EXACT, **COHORTS[cohort])
        assert added
        return results[cohort]

    return run


def differences(one: Result, other: Result) -> float:
    """Return the largest difference of two weights."""
    return max(float(np.abs(one.weights[name] - other.weights[name]).max()) for name in one.weights)


class TestExact:
    @pytest.mark.parametrize("workers", [1, 2])
    @pytest.mark.parametrize("cohort", COHORTS)
    def test_masks_change_no_bit(self, cohort: str, workers: int, trained: Train, without_masks: Train) -> None:
        masked, bare = trained(EXACT, **COHORTS[cohort], workers=workers), without_masks(cohort)
        assert masked.hash == bare.hash
        assert [row.loss for row in masked.history] == [row.loss for row in bare.history]
        assert [row.bytes_up for row in masked.history] == [row.bytes_up for row in bare.history]

    def test_the_fixed_point_is_finer_than_float32(self, trained: Train) -> None:
        masked, plain = trained(EXACT, iterations=1), trained("NOT_ENCRYPT", iterations=1)
        assert differences(masked, plain) < 1e-7

    def test_other_masks_change_no_bit(self, train: Train) -> None:
        """The seed draws keys, secrets and neighbours, but not the model, which is there already."""
        assert train(EXACT, client_num=5, seed=1).hash == train(EXACT, client_num=5, seed=2).hash

    def test_a_mask_left_in_the_sum_would_be_seen(self, train: Train, trained: Train) -> None:
        """The comparison above can fail: here a single mask is missing where masks are taken out of the sum."""
        add, calls = WordMasks.add, []

        def all_but_one(masks: WordMasks, total: Any, key: bytes, sign: int) -> None:
            calls.append(key)
            if len(calls) != 5:
                add(masks, total, key, sign)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(WordMasks, "add", all_but_one)
            spoilt = train(EXACT, iterations=1, workers=1)
        assert differences(spoilt, trained(EXACT, iterations=1)) > 1


class TestFloat:
    @pytest.mark.parametrize("mode", [PW, STABLE])
    @pytest.mark.parametrize("cohort", COHORTS)
    def test_the_model_is_the_plain_average(self, mode: str, cohort: str, trained: Train) -> None:
        masked, plain = (trained(each, iterations=1, **COHORTS[cohort]) for each in (mode, "NOT_ENCRYPT"))
        assert differences(masked, plain) < 1e-5
        assert masked.history[0].loss == plain.history[0].loss

    @pytest.mark.parametrize("mode", [PW, STABLE])
    def test_two_iterations_learn_the_same(self, mode: str, trained: Train) -> None:
        """Last bits may tip a maximum of a pooling, which training amplifies; a mask that stays would move all."""
        masked, plain = trained(mode), trained("NOT_ENCRYPT")
        moved = [np.abs(masked.weights[name] - plain.weights[name]).reshape(-1) for name in plain.weights]
        assert np.median(np.concatenate(moved)) < 1e-5
        assert masked.history[1].loss == pytest.approx(plain.history[1].loss, rel=1e-2)

    @pytest.mark.parametrize("mode", [PW, STABLE])
    def test_other_masks_change_last_bits(self, mode: str, train: Train) -> None:
        one, other = (train(mode, iterations=1, seed=seed) for seed in (1, 2))
        assert 0 < differences(one, other) < 1e-5


@pytest.mark.parametrize("mode", MODES)
class TestEachMode:
    def test_the_same_seed_gives_the_same_weights(self, mode: str, trained: Train) -> None:
        first = trained(mode, client_num=5, workers=1)
        others = [{"workers": 3}, {"transport": "http"}, {"per_client_models": False}]
        assert {trained(mode, client_num=5, **other).hash for other in others} == {first.hash}

    def test_progress_counts_each_client_once(self, mode: str, train: Train, recorder: Any) -> None:
        train(mode, client_num=4, reporter=recorder)
        assert recorder.seen == [(iteration, done, 4) for iteration in (1, 2) for done in (1, 2, 3, 4)]
        assert [row.clients for row in recorder.rows] == [4, 4]

    def test_nothing_is_left_of_it(self, mode: str, train: Train) -> None:
        train(mode, transport="http")
        assert own_threads() == []

    def test_ctrl_c(self, mode: str, train: Train, tmp_path: Path) -> None:
        class Impatient:
            stage = warning = row = staticmethod(lambda _: None)

            def progress(self, progress: Any) -> None:
                if progress.iteration == 2:
                    raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(mode, client_num=5, iterations=3, reporter=Impatient())
        assert own_threads() == []
        assert "interrupted after 1 of 3 iterations" in (tmp_path / "run" / "summary.txt").read_text()

    def test_the_title_and_the_logs_name_it(self, mode: str, train: Train, tmp_path: Path) -> None:
        result = train(mode)
        assert result.title.endswith(f", {mode}")
        assert mode in (tmp_path / "run" / "client_0" / "client.log").read_text()
        assert f"{mode}: " in result.summary()

    def test_two_clients(self, mode: str, train: Train, recorder: Any) -> None:
        """The fewest that go; with PW_EXACT three, since the sum of two shows each the other's."""
        count = 3 if mode == EXACT else 2
        modes = (mode, "NOT_ENCRYPT")
        masked, plain = (train(each, client_num=count, iterations=1, reporter=recorder) for each in modes)
        assert differences(masked, plain) < 1e-5
        assert any("the sum of 2 devices" in line for line in recorder.warnings) == (count == 2)

    def test_fewer_writers_than_asked_for(self, mode: str, train: Train, recorder: Any) -> None:
        result = train(mode, client_num=50, iterations=1, reporter=recorder)
        assert result.history[0].clients == 5
        assert any("5 usable users, 50 were asked for" in line for line in recorder.warnings)

    def test_small_downloads_go_with_it(self, mode: str, trained: Train) -> None:
        small, whole = (trained(mode, iterations=1, download_compress_type=form) for form in ("QUANT", "NO_COMPRESS"))
        assert small.history[0].bytes_down < whole.history[0].bytes_down / 2
        assert small.history[0].bytes_up == whole.history[0].bytes_up


class TestBytes:
    """``traffic``: values of weights, and keys, shares and lists, as Traffic counts them."""

    def test_pairwise(self, trained: Train) -> None:
        row = trained(PW, client_num=5, iterations=1).history[0]
        keys = {"c_pk": 32, "s_pk": 32, "ind_iv": 16, "pw_iv": 16, "pw_salt": 32}
        sealed, revealed = 96, 33
        device_up = 4 * VALUES + sum(keys.values()) + 4 * (NAME + sealed) + 4 * (NAME + revealed)
        assert row.bytes_up == 5 * device_up
        everybody = 5 * (NAME + sum(keys.values()) - keys["ind_iv"])
        device_down = 2 * 4 * VALUES + everybody + 4 * (NAME + sealed) + 5 * NAME
        assert row.bytes_down == 5 * device_down

    def test_stable(self, trained: Train) -> None:
        row = trained(STABLE, client_num=5, iterations=1).history[0]
        keys = {"s_pk": 32, "pw_iv": 16, "pw_salt": 32}
        assert row.bytes_up == 5 * (4 * VALUES + sum(keys.values()))
        assert row.bytes_down == 5 * (2 * 4 * VALUES + 5 * (NAME + sum(keys.values())))

    def test_exact(self, trained: Train) -> None:
        """Twice the weights, and little more: each client knows two neighbours only."""
        row = trained(EXACT, client_num=5, iterations=1).history[0]
        neighbours, keys = 2, 3 * 32
        bounds = 8
        above = row.bytes_up / 5 - (8 * VALUES + bounds + keys)
        sealed_and_revealed = above / neighbours - 2 * NAME
        assert sealed_and_revealed == int(sealed_and_revealed) and 32 + 32 < sealed_and_revealed < 160


class TestSettings:
    @pytest.mark.parametrize(
        ("settings", "text"),
        [
            *(({"encrypt_type": mode, "executor": "ray"}, f"executor ray does not work with {mode}") for mode in MODES),
            *(
                ({"encrypt_type": mode, "clients": "java"}, f"Java clients do not work with {mode}: 0.1.0 begins")
                for mode in MODES
            ),
            (
                {"encrypt_type": EXACT, "stack": "federated"},
                "PW_EXACT is mindfl's own: MindSpore Federated's server does not know it",
            ),
            *(
                (
                    {"encrypt_type": mode, "train_weight_name": "fc3.bias"},
                    f"train_weight_name does not work with {mode}: a mask covers all weights",
                )
                for mode in MODES
            ),
            *(
                ({"encrypt_type": mode, "client_num": 1}, f"{mode} needs at least 2 clients in an iteration, not 1")
                for mode in MODES
            ),
            ({"encrypt_type": PW, "clients_per_iteration": 1}, "needs at least 2 clients in an iteration, not 1"),
            ({"encrypt_type": EXACT, "client_num": 2}, "2 devices of which 0 are corrupt .* nothing to protect"),
            (
                {"encrypt_type": PW, "reconstruct_secrets_threshold": 3},
                "reconstruct_secrets_threshold must be from 1 to 2, one less than the clients",
            ),
            ({"encrypt_type": PW, "reconstruct_secrets_threshold": 0}, "must be a whole number of at least 1, got 0"),
            (
                {"encrypt_type": EXACT, "exact_corrupt_ratio": -0.1},
                "exact_corrupt_ratio must be a number of at least 0",
            ),
            ({"encrypt_type": EXACT, "exact_corrupt_ratio": 0.95}, "exact_corrupt_ratio must be .* at most 0.9"),
            (
                {"encrypt_type": EXACT, "exact_corrupt_ratio": 0.9, "client_num": 10},
                "10 devices cannot withstand 9 corrupt and 0 lost ones",
            ),
        ],
    )
    def test_what_cannot_be(
        self, settings: dict[str, Any], text: str, make_job: Callable[..., Any], tmp_path: Path
    ) -> None:
        with pytest.raises(OptionError, match=text) as caught:
            make_job(**settings)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "run").exists()

    def test_a_threshold_for_more_writers_than_there_are(self, train: Train) -> None:
        with pytest.raises(OptionError, match="reconstruct_secrets_threshold must be from 1 to 4"):
            train(PW, client_num=50, reconstruct_secrets_threshold=20)

    @pytest.mark.parametrize(
        ("settings", "text"),
        [
            (
                {"encrypt_type": EXACT, "reconstruct_secrets_threshold": 2},
                "--reconstruct_secrets_threshold 2 has no effect on the uploads: they are not PW_ENCRYPT",
            ),
            (
                {"encrypt_type": STABLE, "reconstruct_secrets_threshold": 2},
                "--reconstruct_secrets_threshold 2 has no effect on the uploads: they are not PW_ENCRYPT",
            ),
            (
                {"encrypt_type": PW, "exact_corrupt_ratio": 0.2},
                "--exact_corrupt_ratio has no effect on the uploads: they are not PW_EXACT",
            ),
            *(
                (
                    {"encrypt_type": mode, "upload_compress_type": "DIFF_SPARSE_QUANT"},
                    "--upload_compress_type DIFF_SPARSE_QUANT has no effect on the uploads: masked weights cannot be "
                    "compressed",
                )
                for mode in MODES
            ),
            ({"encrypt_type": PW, "dp_budget": 9.0}, "--dp_budget has no effect on this job: only DP_ENCRYPT"),
            (
                {"encrypt_type": EXACT, "domain_name": "http://127.0.0.1:1"},
                "--encrypt_type PW_EXACT has no effect on a server that runs already: its own settings count",
            ),
        ],
    )
    def test_what_has_no_effect_is_said(
        self, settings: dict[str, Any], text: str, make_job: Callable[..., Any], recorder: Any
    ) -> None:
        make_job(reporter=recorder, **settings)
        assert any(line.startswith(text) for line in recorder.warnings), recorder.warnings

    @pytest.mark.parametrize(("clients", "threshold"), [(2, 1), (3, 2), (5, 4)])
    def test_the_threshold_is_more_than_two_thirds_unless_chosen(
        self, clients: int, threshold: int, trained: Train
    ) -> None:
        said = trained(PW, client_num=clients, iterations=1).summary()
        assert f"PW_ENCRYPT: {threshold} of {clients - 1} others recover a secret" in said

    def test_a_low_threshold_is_warned_of(self, train: Train, trained: Train, recorder: Any) -> None:
        chosen = train(PW, client_num=5, iterations=1, reconstruct_secrets_threshold=1, reporter=recorder)
        assert "PW_ENCRYPT: 1 of 4 others recover a secret" in chosen.summary()
        assert any("reconstruct_secrets_threshold 1 is not more than" in line for line in recorder.warnings)
        # Who recovers a secret makes no difference to the sum.
        assert chosen.hash == trained(PW, client_num=5, iterations=1).hash


@pytest.mark.parametrize("mode", [PW, EXACT])
def test_an_interrupted_process_ends(mode: str, models: Path, writers: Path, tmp_path: Path) -> None:
    """A process of its own, with far more iterations than it will get to do."""
    command = [sys.executable, "-m", "mindfl", "simulate", "--work_dir", str(tmp_path / "run")]
    command += ["--train_dataset", str(writers), "--train_model_path", str(models), "--client_num", "5"]
    command += ["--iterations", "1000000", "--epochs", "1", "--encrypt_type", mode]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "iteration 2/" in line:
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert err.endswith(
        "mindfl: error: interrupted (what was finished is kept; --resume goes on from there) [E-INTERRUPTED]\n"
    )


@pytest.mark.parametrize("mode", MODES)
def test_a_device_that_fails_after_it_shared_secrets_is_named(mode: str, train: Train) -> None:
    with pytest.raises(ClientError, match=r"client synthetic_000\d failed in iteration 1: the training loss is"):
        train(mode, client_num=5, learning_rate=1e9)
    assert own_threads() == []


_EARLIER: set[int | None] = set()


@pytest.fixture(autouse=True)
def earlier_threads() -> None:
    """Other tests' keys are derived in threads that live as long as the keys are kept."""
    _EARLIER.clear()
    _EARLIER.update(thread.ident for thread in threading.enumerate())


def own_threads() -> list[str]:
    """Return the names of the threads that belong to jobs of this test."""
    new = [thread for thread in threading.enumerate() if thread.ident not in _EARLIER]
    return [thread.name for thread in new if thread.name.startswith("mindfl-")]
