"""Compressed and private uploads at the coordinator: what was recorded from the real server, journals, refusals."""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindfl.errors import OptionError
from mindfl.privacy import quantise_weights
from mindfl.protocol import (
    CompressFeatureMap,
    CompressType,
    RequestFLJob,
    RequestGetModel,
    RequestUpdateModel,
    ResponseCode,
    ResponseFLJob,
    ResponseGetModel,
    ResponseUpdateModel,
    Weights,
    decode,
    texts,
)
from mindfl.server import Coordinator, Refusal, ServerConfig
from mindfl.server.durable import DurableJob
from mindfl.server.http.front import ReplyCache
from mindfl.server.iteration import Clock
from mindfl.server.snapshot import Given, JobOrigin, Snapshot, fingerprint
from mindfl.server.snapshot import decode as decode_snapshot

GOLDEN = Path(__file__).parents[1] / "golden" / "privacy"
T0 = 1_795_333_460_000
#: of the recordings
RATE, STEP = 0.4, 0.1
LENGTHS = {"c": 300, "a": 1000, "b": 7}
SPARSE = {"upload_compress_type": "DIFF_SPARSE_QUANT", "upload_sparse_rate": RATE}
SIGNS = {"encrypt_type": "SIGNDS", "sign_global_lr": STEP}


def recorded(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_text())


def array_of(text: str, dtype: Any = np.float32) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype)


def first_model() -> dict[str, np.ndarray]:
    """The model that the recordings begin with."""
    random = np.random.default_rng(3)
    return {name: random.normal(0, 0.05, length).astype(np.float32) for name, length in LENGTHS.items()}


def coordinator(**settings: Any) -> Coordinator:
    return Coordinator(ServerConfig(fl_iteration_num=50, start_fl_job_threshold=1, **settings), first_model())


def start(server: Any, data_size: int = 10, fl_id: str = "a", types: tuple[CompressType, ...] = ()) -> ResponseFLJob:
    request = RequestFLJob(
        fl_name="any", fl_id=fl_id, data_size=data_size, timestamp=str(T0), download_compress_types=types
    )
    answer = server.handle(request, T0)
    return answer if isinstance(answer, ResponseFLJob) else answer.response


def update(server: Any, iteration: int, fl_id: str = "a", **fields: Any) -> ResponseUpdateModel:
    request = RequestUpdateModel(
        fl_name="any", fl_id=fl_id, iteration=iteration, timestamp=str(T0), upload_loss=0.5, **fields
    )
    answer = server.handle(request, T0)
    return answer if isinstance(answer, ResponseUpdateModel) else answer.response


def get_model(server: Coordinator, iteration: int, *types: CompressType) -> ResponseGetModel:
    answer = server.handle(RequestGetModel(iteration=iteration, timestamp=str(T0), download_compress_types=types), T0)
    assert isinstance(answer, ResponseGetModel)
    return answer


def sparse_fields(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """The upload of a recorded iteration."""
    return {
        "upload_compress_type": CompressType.DIFF_SPARSE_QUANT,
        "upload_sparse_rate": float(np.float32(RATE)),
        "name_vec": tuple(LENGTHS),
        "compress_feature_map": tuple(
            CompressFeatureMap(
                weight_fullname=entry["name"],
                compress_data=array_of(entry["data"], np.int8),
                min_val=entry["min"],
                max_val=entry["max"],
            )
            for entry in entries
        ),
    }


def sign_fields(each: dict[str, Any]) -> dict[str, Any]:
    names = {name: np.zeros(0, np.float32) for name in LENGTHS}
    return {"feature_map": names, "sign": each["sign"], "index_array": np.array(each["indices"], np.int32)}


def assert_models_are(server: Coordinator, expected: dict[str, str]) -> None:
    for name, text in expected.items():
        np.testing.assert_array_max_ulp(server.model[name], array_of(text), 1)


class TestRecorded:
    """What the real server made of the same uploads, one rounding of its own sum aside."""

    def test_sparse_uploads(self) -> None:
        server = coordinator(**SPARSE)
        for iteration, each in enumerate(recorded("sparse"), 1):
            told = start(server, each["data_size"])
            assert (told.upload_compress_type, told.upload_sparse_rate) == (1, np.float32(RATE))
            assert update(server, iteration, **sparse_fields(each["entries"])).retcode == ResponseCode.SUCCEED
            assert_models_are(server, each["model"])
        assert server.iteration == 5

    def test_sign_uploads(self) -> None:
        server = coordinator(**SIGNS)
        for iteration, each in enumerate(recorded("signs"), 1):
            plan = start(server, each["data_size"]).fl_plan_config
            assert plan.cipher.encrypt_type == "SIGNDS"
            assert plan.cipher.ds_params.sign_global_lr == np.float32(STEP)
            assert update(server, iteration, **sign_fields(each)).retcode == ResponseCode.SUCCEED
            assert_models_are(server, each["model"])

    def test_refusals(self) -> None:
        first = recorded("sparse")[0]
        fields = sparse_fields(first["entries"])
        entry, *others = fields["compress_feature_map"]
        faults = {
            "RATE": {"upload_sparse_rate": float(np.nextafter(np.float32(RATE), np.float32(1)))},
            "NO_NAMES": {"name_vec": ()},
            "NO_ENTRIES": {"compress_feature_map": ()},
            "NOT_FINITE": {"compress_feature_map": (replace(entry, min_val=float("nan")), *others)},
            "BOUNDS": {"compress_feature_map": (replace(entry, min_val=5.0, max_val=1.0), *others)},
            "UNKNOWN_NAME": {"name_vec": ("zz", *list(LENGTHS)[1:])},
            "REPEATED_NAME": {"name_vec": (*LENGTHS, "a")},
            "WRONG_LENGTH": {"compress_feature_map": (replace(entry, compress_data=np.zeros(10, np.int8)), *others)},
            "WRONG_LENGTH none": {"compress_feature_map": tuple(others)},
        }
        assert faults.keys() == first["refused"].keys()
        server = coordinator(**SPARSE)
        start(server, first["data_size"])
        for name, fault in faults.items():
            answer = update(server, 1, **fields | fault)
            code, reason = first["refused"][name]
            assert (answer.retcode, answer.reason.split(":")[0]) == (code, reason.split(":")[0]), name
        assert sum(server.job.refusals.values()) == len(faults)
        assert server.job.refusals["sparse_rate"] == server.job.refusals["quant_bounds"] == 1
        assert update(server, 1, **fields).retcode == ResponseCode.SUCCEED
        assert_models_are(server, first["model"])

    def test_sign_refusals(self) -> None:
        first = recorded("signs")[0]
        fields = sign_fields(first)
        faults = {
            "INDEX_COUNT": {"index_array": np.arange(101, dtype=np.int32)},
            "INDEX_COUNT none": {"index_array": np.zeros(0, np.int32)},
            "NO_NAMES": {"feature_map": {}},
            "UNKNOWN_NAME": {"feature_map": {"zz": np.zeros(0, np.float32)}},
            "beyond the weights": {"index_array": np.array([1307], np.int32)},
            "twice": {"index_array": np.array([4, 4], np.int32)},
            "two steps at once": {"sign": 2},
        }
        server = coordinator(**SIGNS)
        start(server, first["data_size"])
        for name, fault in faults.items():
            answer = update(server, 1, **fields | fault)
            assert (answer.retcode, answer.reason.split(":")[0]) == (400, texts.UPDATE_FEATURES.split(":")[0]), name
        assert server.job.refusals["sign_indices"] == 5
        assert update(server, 1, **fields).retcode == ResponseCode.SUCCEED


class TestUploads:
    @pytest.mark.parametrize("settings", [SPARSE, SIGNS])
    def test_plain_weights_are_taken_too(self, settings: dict[str, Any]) -> None:
        server = coordinator(**settings)
        start(server, 2)
        weights = {name: np.full(length, 6, np.float32) for name, length in LENGTHS.items()}
        assert update(server, 1, feature_map=weights).retcode == ResponseCode.SUCCEED
        assert all((values == 3).all() for values in server.model.values())

    @pytest.mark.parametrize("settings", [{}, SIGNS, {"encrypt_type": "DP_ENCRYPT"}])
    def test_a_form_that_was_not_asked_for_is_refused(self, settings: dict[str, Any]) -> None:
        server = coordinator(**settings)
        start(server)
        for compression in (CompressType.DIFF_SPARSE_QUANT, CompressType.QUANT, CompressType(77)):
            fields = sparse_fields(recorded("sparse")[0]["entries"]) | {"upload_compress_type": compression}
            answer = update(server, 1, **fields)
            assert (answer.retcode, answer.reason) == (400, texts.UPDATE_SCHEMA)

    def test_a_device_that_did_not_start_is_told_that_first(self) -> None:
        server = coordinator(**SPARSE)
        answer = update(server, 1, "stranger", **sparse_fields([]))
        assert answer.retcode == ResponseCode.OUT_OF_TIME
        assert server.job.refusals == {Refusal.UPDATE_NOT_STARTED.label: 1}

    def test_a_device_of_the_instance_before_is_not_counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It was decoding when a new instance began, in which a device of that name has other samples."""
        server = coordinator(**SPARSE)
        start(server, 10)

        def renew(*arguments: Any) -> Weights:
            server.job.new_instance(server.config, "another", T0)
            start(server, 20)
            return {name: np.ones(length, np.float32) for name, length in LENGTHS.items()}

        monkeypatch.setattr("mindfl.modes.plain_mode.decode_update", lambda *args, **values: renew())
        before = server.model
        answer = update(server, 1, **sparse_fields([]))
        assert answer.retcode == ResponseCode.OUT_OF_TIME
        assert server.iteration == 1
        assert all(np.array_equal(values, before[name]) for name, values in server.model.items())

    @pytest.mark.parametrize(
        ("settings", "name", "fields"),
        [
            (SPARSE, "sparse", lambda each: sparse_fields(each["entries"])),
            (SIGNS, "signs", sign_fields),
        ],
    )
    def test_the_journal_brings_back_the_same_bits(
        self, settings: dict[str, Any], name: str, fields: Any, tmp_path: Path
    ) -> None:
        config = ServerConfig(fl_iteration_num=9, start_fl_job_threshold=2, **settings)
        rounds = recorded(name)

        def opened() -> DurableJob:
            return DurableJob(tmp_path / "state", config, first_model(), clock=Clock())

        def upload(job: Any, device: str, each: dict[str, Any]) -> None:
            start(job, 3, device)
            assert update(job, 1, device, **fields(each)).retcode == ResponseCode.SUCCEED

        # The mask of iteration 1 is that of the first recording; both devices send what was recorded there.
        job = opened()
        upload(job, "a", rounds[0])
        job.close()
        job = opened()
        assert job.recovery.uploads == 1
        upload(job, "b", rounds[0])
        resumed = job.coordinator.model
        job.close()

        straight = Coordinator(config, first_model())
        for device in "ab":
            upload(straight, device, rounds[0])
        assert straight.iteration == 2
        assert {key: value.tobytes() for key, value in resumed.items()} == {
            key: value.tobytes() for key, value in straight.model.items()
        }


class TestDownloads:
    def test_quantised_for_those_who_can_read_it(self) -> None:
        server = coordinator(download_compress_type="QUANT")
        quantised = start(server, types=(CompressType.NO_COMPRESS, CompressType.QUANT))
        assert quantised.download_compress_type == CompressType.QUANT and quantised.feature_map is None
        expected = quantise_weights(server.model)
        assert [entry.weight_fullname for entry in quantised.compress_feature_map] == sorted(LENGTHS)
        for ours, theirs in zip(quantised.compress_feature_map, expected, strict=True):
            assert (ours.min_val, ours.max_val) == (theirs.min_val, theirs.max_val)
            assert ours.compress_data.tobytes() == theirs.compress_data.tobytes()
        plain = get_model(server, 0, CompressType.NO_COMPRESS)
        assert plain.download_compress_type == CompressType.NO_COMPRESS and plain.compress_feature_map is None
        assert plain.feature_map is server.model

    def test_not_unless_the_job_says_so(self) -> None:
        server = coordinator()
        assert start(server, types=(CompressType.QUANT,)).feature_map is server.model

    def test_made_and_encoded_once(self) -> None:
        server, cache = coordinator(download_compress_type="QUANT"), ReplyCache()
        answers = [get_model(server, 0, CompressType.QUANT) for _ in range(2)]
        assert answers[0].compress_feature_map is answers[1].compress_feature_map
        bodies = [cache.encode(answer) for answer in answers]
        assert bodies[0] is bodies[1]
        plain = cache.encode(get_model(server, 0))
        assert len(bodies[0]) < len(plain) / 3
        assert decode(bodies[0], ResponseGetModel).compress_feature_map[0].compress_data.size == LENGTHS["a"]
        assert cache.encode(get_model(server, 0, CompressType.QUANT)) is bodies[0]

    def test_a_model_too_wide_for_it_goes_as_it_is(self) -> None:
        wide = {"w": np.array([-3e38, 3e38], np.float32)}
        config = ServerConfig(fl_iteration_num=1, start_fl_job_threshold=1, download_compress_type="QUANT")
        answer = start(Coordinator(config, wide), types=(CompressType.QUANT,))
        assert answer.download_compress_type == CompressType.NO_COMPRESS
        assert answer.feature_map["w"].tolist() == wide["w"].tolist()


class TestSettings:
    def test_parameters_are_told_with_encryption_only(self) -> None:
        private = start(coordinator(encrypt_type="DP_ENCRYPT", dp_eps=0.1)).fl_plan_config.cipher
        assert (private.dp_params.dp_eps, private.dp_params.dp_norm_clip) == (np.float32(0.1), 1.0)
        assert (private.ds_params.sign_k, private.pw_params.t) == (np.float32(0.01), 1)
        plain = start(coordinator(dp_eps=0.1)).fl_plan_config.cipher
        assert (plain.encrypt_type, plain.dp_params.dp_eps) == ("NOT_ENCRYPT", 0)

    @pytest.mark.parametrize(
        ("settings", "name"),
        [
            ({"encrypt_type": "ROT13"}, "encrypt_type"),
            ({"encrypt_type": "PW_ENCRYPT"}, "at least 2 clients"),
            ({"upload_compress_type": "QUANT"}, "upload_compress_type"),
            ({"download_compress_type": "DIFF_SPARSE_QUANT"}, "download_compress_type"),
            ({"encrypt_type": "DP_ENCRYPT", "dp_eps": 0}, "dp_eps must be a finite number above 0"),
            ({"encrypt_type": "DP_ENCRYPT", "dp_eps": float("nan")}, "dp_eps"),
            ({"encrypt_type": "DP_ENCRYPT", "dp_eps": 1e39}, "dp_eps"),
            ({"encrypt_type": "DP_ENCRYPT", "dp_delta": 1.0}, "dp_delta"),
            ({"encrypt_type": "DP_ENCRYPT", "dp_norm_clip": -1}, "dp_norm_clip"),
            ({**SIGNS, "sign_k": 0.3}, "sign_k must be a number above 0 and at most 0.25"),
            ({**SIGNS, "sign_eps": 101}, "sign_eps"),
            ({**SIGNS, "sign_thr_ratio": 0.4}, "sign_thr_ratio must be a number of at least 0.5"),
            ({**SIGNS, "sign_dim_out": 51}, "sign_dim_out"),
            ({**SIGNS, **SPARSE}, "upload_compress_type must be NO_COMPRESS"),
            ({**SPARSE, "upload_sparse_rate": 0}, "upload_sparse_rate"),
        ],
    )
    def test_what_cannot_be_is_named(self, settings: dict[str, Any], name: str) -> None:
        with pytest.raises(OptionError, match=name):
            coordinator(**settings)

    def test_the_mode_is_made_once_and_not_kept_in_a_pickle(self) -> None:
        config = coordinator(encrypt_type="DP_ENCRYPT", dp_eps=0.1).config
        assert config.mode is config.mode
        again = pickle.loads(pickle.dumps(config))
        assert again == config and "mode" not in vars(again)

    def test_what_does_not_matter_is_not_checked(self) -> None:
        assert coordinator(dp_eps=-1, sign_k=7, upload_sparse_rate=9).config.dp_eps == -1

    def test_the_limits_themselves_are_usable(self) -> None:
        coordinator(**SIGNS, sign_k=0.25, sign_eps=100, sign_thr_ratio=0.5, sign_dim_out=50)
        coordinator(upload_compress_type="DIFF_SPARSE_QUANT", upload_sparse_rate=1)

    def test_a_snapshot_from_before_these_settings_is_still_read(self) -> None:
        config = ServerConfig(fl_iteration_num=2, start_fl_job_threshold=1)
        server = Coordinator(config, first_model())
        parts = Snapshot(JobOrigin(bytes(16), config, ""), 0, server.job.snapshot()).parts()
        text = json.loads(bytes(parts[2]))
        early = [name for name in asdict(config) if name not in ("encrypt_type", "dp_eps", "upload_compress_type")]
        for key in ("begun_with", "config"):
            text[key] = {name: text[key][name] for name in early}
        text["initial_model"] = fingerprint(server.model)
        head = json.dumps(text).encode()
        body = [parts[0], len(head).to_bytes(8, "little"), head, *parts[3:-1]]
        data = b"".join(bytes(part) for part in body)
        data += zlib.crc32(data).to_bytes(4, "little")
        read = decode_snapshot(data, "the folder", Given(config, server.model, server.job.layout))
        assert read.state.config == config
