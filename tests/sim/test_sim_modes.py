"""Simulations with compressed and private uploads."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from folder_contents import contents

from mindfl.errors import OptionError
from mindfl.privacy import GaussianAccountant, noise_multiplier
from mindfl.sim import History

#: of LeNet
VALUES, WEIGHTS = 66_404, 8
PRIVATE = {"encrypt_type": "DP_ENCRYPT"}
MODES: dict[str, dict[str, Any]] = {
    "quant": {"download_compress_type": "QUANT"},
    "sparse": {"upload_compress_type": "DIFF_SPARSE_QUANT"},
    "signs": {"encrypt_type": "SIGNDS"},
    "private": PRIVATE,
    "all": {**PRIVATE, "upload_compress_type": "DIFF_SPARSE_QUANT", "download_compress_type": "QUANT"},
}


@pytest.mark.parametrize("mode", MODES)
class TestEachMode:
    def test_the_result_depends_on_neither_workers_nor_transport(self, mode: str, make_job: Any) -> None:
        first, *others = (
            make_job(workers=workers, transport=transport, **MODES[mode]).run()
            for workers, transport in ((1, "in_process"), (3, "in_process"), (2, "http"))
        )
        for other in others:
            assert other.hash == first.hash
            assert [row.bytes_up for row in other.history] == [row.bytes_up for row in first.history]
            assert [row.bytes_down for row in other.history] == [row.bytes_down for row in first.history]
            assert other.summary().splitlines()[-1] == first.summary().splitlines()[-1]

    def test_another_seed_or_mode_is_another_result(self, mode: str, make_job: Any) -> None:
        hashes = {make_job(**settings).run().hash for settings in ({}, MODES[mode])}
        assert len(hashes) == 2


def test_the_noise_follows_the_seed(make_job: Any) -> None:
    assert make_job(seed=1, iterations=1, **PRIVATE).run().hash != make_job(seed=2, iterations=1, **PRIVATE).run().hash


def test_bytes_title_and_files(make_job: Any, tmp_path: Path) -> None:
    result = make_job(**MODES["all"], dp_eps=20.0).run()
    row = result.history[0]
    bounds = 8 * WEIGHTS
    assert row.bytes_up == 3 * (int(VALUES * 0.4) + bounds)
    assert row.bytes_down == 2 * 3 * (VALUES + bounds)
    assert result.title.endswith("DP_ENCRYPT epsilon 20 delta 0.01, uploads DIFF_SPARSE_QUANT 0.4, downloads QUANT")
    assert (tmp_path / "run" / "summary.txt").read_text().startswith(result.title)
    assert "privacy: epsilon" in result.summary()


class TestSpending:
    def test_epsilon_is_in_history_and_summary(self, make_job: Any, tmp_path: Path) -> None:
        result = make_job(**PRIVATE, dp_eps=20.0, iterations=3).run()
        spent = result.history.column("epsilon")
        assert spent[0] == pytest.approx(20, rel=1e-6)
        assert spent == sorted(spent) and spent[2] < 60
        assert f"privacy: epsilon {spent[2]:.4g} spent, delta 0.01" in result.summary()
        assert History.load(tmp_path / "run" / "history.jsonl").column("epsilon") == spent

    def test_plain_weights_cost_what_nobody_counts(self, make_job: Any, tmp_path: Path) -> None:
        result = make_job().run()
        assert math.isnan(result.history[0].epsilon) and "privacy" not in result.summary()
        line = (tmp_path / "run" / "history.jsonl").read_text().splitlines()[0]
        assert json.loads(line)["epsilon"] is None

    def test_the_job_ends_before_the_iteration_that_would_exceed_the_budget(self, make_job: Any, recorder: Any) -> None:
        result = make_job(**MODES["signs"], sign_eps=10.0, iterations=5, dp_budget=25.0, reporter=recorder).run()
        assert result.history.column("epsilon") == [10, 20]
        assert "the privacy budget of 25 pays for 2 of 5 iterations" in recorder.warnings
        assert "privacy: epsilon 20 of 25 spent" in result.summary()
        assert "interrupted" not in result.summary()
        assert result.hash == make_job(**MODES["signs"], sign_eps=10.0, iterations=2).run().hash

    def test_a_warning_comes_once_before_the_end(self, make_job: Any, recorder: Any) -> None:
        make_job(**MODES["signs"], sign_eps=10.0, iterations=4, dp_budget=40.0, reporter=recorder).run()
        assert [text for text in recorder.warnings if "beyond the part" in text] == [
            "privacy: epsilon 30 of 40 spent in 3 iterations, 40 with the next: "
            "beyond the part of the budget at which to warn"
        ]

    def test_a_budget_that_pays_for_nothing_leaves_the_earlier_run(self, make_job: Any) -> None:
        first = make_job(client_num=1, iterations=1)
        first.run()
        folder = first.config.work_dir
        before = contents(folder)
        with pytest.raises(OptionError, match="dp_budget 5 does not pay for one iteration, which costs epsilon 50"):
            make_job(**PRIVATE, dp_budget=5.0, overwrite=True).run()
        assert contents(folder) == before

    def test_sampled_clients_spend_less_towards_who_sees_the_models(self, make_job: Any) -> None:
        pytest.importorskip("dp_accounting")
        result = make_job(**PRIVATE, dp_eps=1.0, dp_delta=1e-5, clients_per_iteration=1).run()
        whole = GaussianAccountant(noise_multiplier(1.0, 1e-5), 1e-5).epsilon(2)
        assert 0 < result.history[-1].epsilon < whole
        assert f"towards the server up to {whole:.4g}, if always chosen" in result.summary()


class TestSettings:
    @pytest.mark.parametrize(
        ("settings", "text"),
        [
            ({"encrypt_type": "PW"}, "encrypt_type must be one of NOT_ENCRYPT"),
            ({**PRIVATE, "dp_delta": 2.0}, "dp_delta must be a number above 0 and below 1"),
            ({"dp_budget": 0.0}, "dp_budget must be a finite number above 0"),
        ],
    )
    def test_what_cannot_be(self, settings: dict[str, Any], text: str, make_job: Any) -> None:
        with pytest.raises(OptionError, match=text):
            make_job(**settings)

    @pytest.mark.parametrize(
        ("settings", "text"),
        [
            ({"dp_eps": 2.0}, "--dp_eps has no effect on the uploads: they are not DP_ENCRYPT"),
            ({"sign_k": 0.2, **PRIVATE}, "--sign_k has no effect on the uploads: they are not SIGNDS"),
            ({"upload_sparse_rate": 0.1}, "--upload_sparse_rate has no effect on the uploads: they are not compressed"),
            (
                {"dp_budget": 9.0},
                "--dp_budget has no effect on this job: only DP_ENCRYPT and SIGNDS say what it costs",
            ),
            (
                {"encrypt_type": "SIGNDS", "upload_compress_type": "DIFF_SPARSE_QUANT"},
                "--upload_compress_type DIFF_SPARSE_QUANT has no effect on the uploads: SIGNDS uploads hold no weights",
            ),
            (
                {**PRIVATE, "domain_name": "http://127.0.0.1:1"},
                "--encrypt_type DP_ENCRYPT has no effect on a server that runs already: its own settings count",
            ),
        ],
    )
    def test_what_has_no_effect_is_said(
        self, settings: dict[str, Any], text: str, make_job: Any, recorder: Any
    ) -> None:
        make_job(reporter=recorder, **settings)
        assert text in recorder.warnings
