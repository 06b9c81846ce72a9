"""The server's YAML file: read as MindSpore Federated 0.1.0 wrote it, and every kind of broken one."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mindfl.errors import MindflError, OptionError, StorageError
from mindfl.server.settings import (
    JobSettings,
    apply_new_instance,
    query_instance,
    read_settings,
    require_supported,
    with_overrides,
)

PLAIN: dict[str, Any] = {
    "fl_name": "Lenet",
    "fl_iteration_num": 2,
    "server_mode": "FEDERATED_LEARNING",
    "enable_ssl": False,
    "distributed_cache": {"type": "redis", "address": "127.0.0.1:26379", "plugin_lib_path": ""},
    "round": {
        "start_fl_job_threshold": 2,
        "start_fl_job_time_window": 30000,
        "update_model_ratio": 1.0,
        "update_model_time_window": 30000,
        "global_iteration_time_window": 60000,
    },
    "summary": {
        "metrics_file": "metrics.json",
        "failure_event_file": "event.txt",
        "continuous_failure_times": 10,
        "data_rate_dir": "",
        "participation_time_level": "5,15",
    },
    "encrypt": {"encrypt_type": "NOT_ENCRYPT"},
    "compression": {
        "upload_compress_type": "NO_COMPRESS",
        "upload_sparse_rate": 0.4,
        "download_compress_type": "NO_COMPRESS",
    },
    "client": {
        "http_url_prefix": "",
        "client_epoch_num": 1,
        "client_batch_size": 32,
        "client_learning_rate": 0.01,
        "connection_num": 10000,
    },
}
SSL = {"server_cert_path": "s.p12", "client_cert_path": "c.p12", "ca_cert_path": "ca.crt", "cipher_list": "ECDHE"}
PW = {"share_secrets_ratio": 1.0, "cipher_time_window": 30000, "reconstruct_secrets_threshold": 2}
REQUIRED = [
    "fl_name",
    "fl_iteration_num",
    "server_mode",
    "enable_ssl",
    "distributed_cache.address",
    *(f"round.{name}" for name in PLAIN["round"]),
    "summary.metrics_file",
    "summary.failure_event_file",
]

Write = Callable[[Any], Path]


def changed(base: Mapping[str, Any], key: str, value: object) -> dict[str, Any]:
    """Return ``base`` with the dotted ``key`` set; ``...`` removes it."""
    first, _, rest = key.partition(".")
    copy = dict(base)
    if rest:
        copy[first] = changed(copy.get(first, {}), rest, value)
    elif value is ...:
        copy.pop(first, None)
    else:
        copy[first] = value
    return copy


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(content: Any) -> Path:
        path = tmp_path / "fl dir é" / "fl.yaml"
        path.parent.mkdir(exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
        return path

    return write


def refusal(write: Write, content: Any) -> str:
    with pytest.raises(OptionError) as caught:
        read_settings(write(content))
    return str(caught.value)


def test_a_plain_file_becomes_the_coordinators_settings(write: Write) -> None:
    settings = read_settings(write(PLAIN))
    config = settings.server_config()

    assert (settings.client.connection_num, settings.summary.metrics_file) == (10000, "metrics.json")
    assert (config.fl_name, config.fl_iteration_num, config.start_fl_job_threshold) == ("Lenet", 2, 2)
    assert (config.start_fl_job_time_window, config.global_iteration_time_window) == (30000, 60000)
    assert (config.client_epoch_num, config.client_batch_size, config.client_learning_rate) == (1, 32, 0.01)
    assert settings.warnings == ()
    require_supported(settings)


def test_optional_sections_may_be_absent_and_get_the_reference_defaults(write: Write) -> None:
    content = {name: PLAIN[name] for name in PLAIN if name not in ("encrypt", "compression", "client")}
    settings = read_settings(write(content))
    assert (settings.client.client_epoch_num, settings.client.client_learning_rate) == (25, 0.001)
    assert settings.encrypt.encrypt_type == "NOT_ENCRYPT"
    assert settings.aggregation.aggregation_type == "FedAvg"


@pytest.mark.parametrize("encrypt_type", ["NOT_ENCRYPT", "PW_ENCRYPT", "DP_ENCRYPT", "SIGNDS"])
def test_a_file_with_every_key_means_the_same(write: Write, encrypt_type: str) -> None:
    content = {**PLAIN, "enable_ssl": True, "ssl": SSL, "aggregation": {"iid_rate": 0.5}}
    content["encrypt"] = {"encrypt_type": encrypt_type, "pw_encrypt": PW}
    settings = read_settings(write(content))
    whole = asdict(replace(settings, origin=replace(settings.origin, entries={})))
    del whole["origin"]
    assert {"ssl", "client_verify", "unsupervised", "checkpoint_dir"} <= whole.keys()
    assert read_settings(write(whole)) == settings


@pytest.mark.parametrize("key", REQUIRED)
@pytest.mark.parametrize("value", [..., None, [1]], ids=["absent", "null", "list"])
def test_a_missing_required_key_is_named(write: Write, key: str, value: object) -> None:
    assert f"{key} is missing" in refusal(write, changed(PLAIN, key, value))


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("fl_iteration_num", [1, 2**31 - 1], [0, -1, 2**31, True, 1.0, "2", 10**4000]),
        ("fl_name", ["x", "联邦"], [5, True, 1.5]),
        ("enable_ssl", [False], [0, 1, "false"]),
        ("server_mode", ["HYBRID_TRAINING", "CLOUD_TRAINING"], ["FEDERATED", 1]),
        ("round.update_model_ratio", [1, 1.0, 0.07], [0, 0.0, -0.1, 1.01, float("nan"), float("inf"), 1e-60, "1"]),
        ("round.start_fl_job_threshold", [1, 2**32 - 1], [0, 2**32]),
        ("round.global_iteration_time_window", [1], [0, 1.5]),
        ("summary.continuous_failure_times", [1], [0]),
        ("client.client_learning_rate", [1, 1e-30], [0, -1.0, 1e39, True]),
        ("client.client_batch_size", [1], [0, 2**31]),
        ("compression.upload_sparse_rate", [1, 0.1], [0, 1.1]),
        ("compression.upload_compress_type", ["DIFF_SPARSE_QUANT"], ["QUANT", "diff"]),
        ("compression.download_compress_type", ["QUANT"], ["DIFF_SPARSE_QUANT"]),
        ("aggregation.aggregation_type", ["FedProx", "Scaffold", "FedNova"], ["qffl"]),
        ("aggregation.iid_rate", [1, 0.2], [0, 1.5]),
        ("unsupervised.eval_type", ["SILHOUETTE_SCORE", "NOT_EVAL"], ["SCORE"]),
        ("unsupervised.cluster_client_num", [1], [0]),
        ("client_verify.replay_attack_time_diff", [0], [-1]),
        ("client_verify.pki_verify", [True], ["true"]),
    ],
)
def test_types_and_ranges_are_the_references(write: Write, key: str, good: list[object], bad: list[object]) -> None:
    for value in good:
        read_settings(write(changed(PLAIN, key, value)))
    for value in bad:
        content = yaml.safe_dump(changed(PLAIN, key, value)) if value != 10**4000 else f"{key}: 1{'0' * 4000}"
        message = refusal(write, content)
        faults = ("must be", "has a value", f"{value} is beyond 32-bit floating point numbers")
        assert any(f"{key} {fault}" in message for fault in faults), value


@pytest.mark.parametrize(
    ("encrypt_type", "block", "key", "good", "bad"),
    [
        ("PW_ENCRYPT", "pw_encrypt", "share_secrets_ratio", 1, 0),
        ("STABLE_PW_ENCRYPT", "pw_encrypt", "reconstruct_secrets_threshold", 1, 0),
        ("PW_ENCRYPT", "pw_encrypt", "cipher_time_window", 1, 0),
        ("DP_ENCRYPT", "dp_encrypt", "dp_eps", 50, 0),
        ("DP_ENCRYPT", "dp_encrypt", "dp_delta", 0.01, 1),
        ("DP_ENCRYPT", "dp_encrypt", "dp_norm_clip", 1, 0),
        ("SIGNDS", "signds", "sign_k", 0.25, 0.26),
        ("SIGNDS", "signds", "sign_eps", 100, 101),
        ("SIGNDS", "signds", "sign_thr_ratio", 0.5, 0.49),
        ("SIGNDS", "signds", "sign_global_lr", 0.1, 0),
        ("SIGNDS", "signds", "sign_dim_out", 50, 51),
    ],
)
def test_only_the_chosen_encryptions_block_is_checked(
    write: Write, encrypt_type: str, block: str, key: str, good: float, bad: float
) -> None:
    base = {**PLAIN, "encrypt": {"pw_encrypt": PW, "encrypt_type": encrypt_type}}
    settings = read_settings(write(changed(base, f"encrypt.{block}.{key}", good)))
    assert getattr(getattr(settings.encrypt, block), key) == good
    wrong = changed(base, f"encrypt.{block}.{key}", bad)
    assert f"encrypt.{block}.{key} must be" in refusal(write, wrong)

    unread = read_settings(write(changed(wrong, "encrypt.encrypt_type", "NOT_ENCRYPT")))
    assert getattr(getattr(unread.encrypt, block), key) != bad


def test_pw_and_tls_need_their_keys_only_when_switched_on(write: Write) -> None:
    message = refusal(write, {**PLAIN, "encrypt": {"encrypt_type": "PW_ENCRYPT"}})
    assert all(f"encrypt.pw_encrypt.{key} is missing" in message for key in PW)
    message = refusal(write, {**PLAIN, "enable_ssl": True, "ssl": {"crl_path": "", "ca_cert_path": ""}})
    assert all(f"ssl.{key} is missing" in message for key in SSL)

    settings = read_settings(write({**PLAIN, "enable_ssl": True, "ssl": SSL}))
    assert (settings.ssl.ca_cert_path, settings.ssl.cert_expire_warning_time_in_day) == ("ca.crt", 90)
    for days in (6, 181):
        content = {**PLAIN, "enable_ssl": True, "ssl": {**SSL, "cert_expire_warning_time_in_day": days}}
        assert "ssl.cert_expire_warning_time_in_day must be a whole number of at least 7 and at most 180" in refusal(
            write, content
        )


def test_all_problems_come_in_one_error_with_file_and_line(write: Write) -> None:
    path = write("fl_nam: x\nfl_iteration_num: none\nround:\n  update_model_ratio: 3\nstart_fl_job_threshold: 2\n")
    with pytest.raises(OptionError) as caught:
        read_settings(path)
    message = str(caught.value)
    assert f"{path}:1: unknown key 'fl_nam' (did you mean fl_name?)" in message
    assert (
        f"{path}:2: fl_iteration_num must be a whole number of at least 1 and at most 2147483647, got 'none'" in message
    )
    assert f"{path}:4: round.update_model_ratio must be a number above 0 and at most 1, got 3" in message
    assert f"{path}:5: unknown key 'start_fl_job_threshold' (did you mean round.start_fl_job_threshold?)" in message
    assert "enable_ssl is missing" in message


def test_a_number_that_yaml_takes_for_text_is_explained(write: Write) -> None:
    text = yaml.safe_dump(PLAIN).replace("client_learning_rate: 0.01", "client_learning_rate: 1e-7")
    assert "got '1e-7' (YAML reads it as text: write 1.0e-07)" in refusal(write, text)
    assert yaml.safe_load("1.0e-07") == 1e-7


def test_a_word_that_yaml_takes_for_a_truth_value_is_explained(write: Write) -> None:
    text = yaml.safe_dump(PLAIN).replace(f"fl_name: {PLAIN['fl_name']}", "fl_name: no")
    assert "fl_name must be a text, got False (YAML takes yes, no, on and off for truth values" in refusal(write, text)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"# only a comment\n", "holds no settings"),
        (b"- a\n", "holds no settings"),
        (b"Lenet", "holds no settings"),
        (b"fl_name: a\nround:\n\tx: 1\n", ":3: not valid YAML"),
        (b"fl_name: caf\xe9\n", ":1: not UTF-8 text"),
        (b"a: 1\nfl_name: \x07\n", ":2: a character that YAML does not allow"),
        (b"a: 1\n---\nb: 1\n", ":2: not valid YAML"),
        (b"fl_name: a\nfl_name: b\n", ":2: 'fl_name' is given twice"),
        (b"fl_name: !!python/object:os.system ls\n", "fl_name has a value that cannot be read"),
        (b"fl_name: " + b"x" * 5000, "fl_name is longer than 4096 characters"),
        (b"? [a, b]\n: 1\n", ":1: a key must be a word"),
        (b"7: 1\n", "unknown key '7'"),
        (b"round: 7\n", ":1: round must be a section"),
        (b"fl_name: {a: b}\n", "fl_name must be a text, got a section"),
        (b"fl_name: &x [*x]\n", "fl_name is missing"),
        (b"<<: *nothing\n", "undefined alias"),
        (b"x" * 70_000, "is longer than 64 KiB"),
        (b"[" * 60_000, ":1: not valid YAML: it nests too deeply"),
        (b"\n".join(b"key%d: 1" % index for index in range(4000)), "more"),
    ],
)
def test_what_is_no_settings_file_is_refused_in_one_line(write: Write, content: bytes, expected: str) -> None:
    message = refusal(write, content)
    assert expected in message
    assert "\n" not in message
    assert len(message) < 20_000


def test_unreadable_files_are_storage_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(StorageError, match="cannot read"):
            read_settings(path)


def test_a_huge_file_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "huge.yaml"
    with path.open("wb") as file:
        file.truncate(2**33)
    with pytest.raises(OptionError, match="longer than"):
        read_settings(path)


def test_an_alias_bomb_costs_nothing(write: Write) -> None:
    layers = ["fl_name:", "- &a0 {update_model_ratio: 0.5}"]
    layers += [f"- &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 60)]
    text = "\n".join([*layers, "round:", "  <<: *a59"])
    tracemalloc.start()
    message = refusal(write, text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "round.start_fl_job_threshold is missing" in message
    assert "round.update_model_ratio" not in message
    assert peak < 20 * 2**20


def test_aliases_and_merged_mappings_mean_what_yaml_says(write: Write) -> None:
    plain = yaml.safe_dump({name: PLAIN[name] for name in PLAIN if name not in ("round", "client")})
    text = (
        plain
        + "round: &base {start_fl_job_threshold: 4, start_fl_job_time_window: &w 1000, update_model_ratio: 0.5,\n"
        + "  update_model_time_window: *w, global_iteration_time_window: *w}\n"
        + "client:\n  client_epoch_num: 3\n"
        + "  <<: [{client_epoch_num: 9, client_batch_size: 8}, {client_batch_size: 7}]\n"
    )
    settings = read_settings(write(text))
    assert settings.round.update_model_time_window == 1000
    assert settings.client.client_epoch_num == 3
    assert settings.client.client_batch_size == 8


@pytest.mark.parametrize(
    ("merges", "expected"),
    [
        ("<<: {A, C}", (1, 8)),
        ("<<: [{A}, {B}, {C}]", (1, 8)),
        ("<<: [{B}, {A}, {C}]", (2, 8)),
        ("<<: {B}\n  <<: [{A}, {C}]", (2, 8)),
        ("<<: {E3, <<: [{A}, {C}]}", (3, 8)),
        ("<<: {<<: [{A}, {C}], E3}", (3, 8)),
        ("<<: {<<: {B}, ? <<\n : {A, C}}", (2, 8)),
        ("<<: [{<<: {B}}, {A, C}]", (2, 8)),
        ("E3\n  <<: [{A}, {C}]", (3, 8)),
        ("<<: [{A}, {C}]\n  E3", (3, 8)),
    ],
)
def test_own_keys_win_over_merged_ones_and_earlier_mappings_over_later(
    write: Write, merges: str, expected: tuple[int, int]
) -> None:
    keys = {"A": "client_epoch_num: 1", "B": "client_epoch_num: 2", "E3": "client_epoch_num: 3"}
    keys |= {"C": "client_batch_size: 8"}
    for letter, key in keys.items():
        merges = re.sub(rf"\b{letter}\b", key, merges)
    content = yaml.safe_dump({name: PLAIN[name] for name in PLAIN if name != "client"}) + f"client:\n  {merges}\n"
    settings = read_settings(write(content))
    assert (settings.client.client_epoch_num, settings.client.client_batch_size) == expected


@pytest.mark.parametrize("value", ["5", "text", "~"])
def test_a_merge_of_what_is_no_section_is_refused(write: Write, value: str) -> None:
    content = yaml.safe_dump({name: PLAIN[name] for name in PLAIN if name != "client"}) + f"client:\n  <<: {value}\n"
    assert "<< must name a section, or a list of sections" in refusal(write, content)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
SOME_KEYS = st.sampled_from([*REQUIRED, "round", "encrypt.encrypt_type", "ssl", "client.client_learning_rate", "new"])


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=SOME_KEYS, value=VALUES)
def test_any_value_of_any_key_is_taken_or_refused(write: Write, key: str, value: object) -> None:
    try:
        settings = read_settings(write(changed(PLAIN, key, value)))
    except OptionError as error:
        # With TLS switched on it is the keys of its section that are missing.
        assert (
            key.rpartition(".")[2] in str(error) or isinstance(value, dict) or (key == "enable_ssl" and value is True)
        )
    else:
        assert isinstance(settings, JobSettings)


@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60) | st.text("ab:&*<>-[]{}!? \n\t'\"|#%@1.e", max_size=40).map(str.encode))
@example(b"&a : *a")
@example(b"<<: [*a, &a {<<: *a}]")
@example(b"- !!binary |\n x")
@example(b"%YAML 9.9\n---\na: b")
@example(b"\xff\xfea\x00:\x00")
def test_any_bytes_give_settings_or_a_mindfl_error(write: Write, content: bytes) -> None:
    with pytest.raises(MindflError):
        read_settings(write(content))


def test_options_override_the_file_and_are_checked_alike(write: Write) -> None:
    path = write(changed(PLAIN, "fl_name", ...))
    settings = read_settings(path, {"fl_name": "Job", "client_epoch_num": 7, "client_batch_size": None})
    assert (settings.fl_name, settings.client.client_epoch_num, settings.client.client_batch_size) == ("Job", 7, 32)
    again = with_overrides(settings, {"round.update_model_ratio": 0.5})
    assert (again.fl_name, again.round.update_model_ratio) == ("Job", 0.5)
    assert with_overrides(settings, {}) == settings

    with pytest.raises(OptionError, match="--fl_iteration_num: fl_iteration_num must be a whole number of at least 1"):
        with_overrides(settings, {"fl_iteration_num": 0})
    with pytest.raises(OptionError, match="no setting speed"):
        with_overrides(settings, {"speed": 1})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("server_mode", "HYBRID_TRAINING"),
        ("aggregation.aggregation_type", "Scaffold"),
        ("client_verify.pki_verify", True),
        ("distributed_cache.plugin_lib_path", "/x.so"),
    ],
)
def test_what_cannot_be_honoured_is_read_but_no_server_starts_with_it(write: Write, key: str, value: object) -> None:
    path = write(changed(PLAIN, key, value))
    settings = read_settings(path)
    with pytest.raises(OptionError, match=f"{key} {value} is not yet supported") as caught:
        require_supported(settings)
    assert f"{path}:" in str(caught.value)


#: sections that the reference's own files have besides those of PLAIN
REFERENCE = {
    "unsupervised": {"cluster_client_num": 1000, "eval_type": "SILHOUETTE_SCORE"},
    "encrypt": {
        "encrypt_train_type": "NOT_ENCRYPT",
        "privacy_eval_type": "LAPLACE",
        "pw_encrypt": {"share_secrets_ratio": 1.0, "cipher_time_window": 3000, "reconstruct_secrets_threshold": 1},
        "dp_encrypt": {"dp_eps": 50.0, "dp_delta": 0.01, "dp_norm_clip": 1.0},
        "signds": {"sign_k": 0.01, "sign_eps": 100, "sign_thr_ratio": 0.6, "sign_global_lr": 0.1, "sign_dim_out": 0},
        "laplace_eval": {"laplace_eval_eps": 230260},
    },
    "aggregation": {"aggregation_type": "FedAvg", "iid_rate": 0.01, "total_client_num": 7},
    "ssl": {**SSL, "crl_path": "", "cert_expire_warning_time_in_day": 90},
    "client_verify": {
        "pki_verify": False,
        "root_first_ca_path": "",
        "root_second_ca_path": "",
        "equip_crl_path": "",
        "replay_attack_time_diff": 600000,
    },
    "distributed_cache": {
        "type": "redis",
        "address": "127.0.0.1:8113",
        "plugin_lib_path": "",
        "enable_ssl": False,
        "cacert_filename": "",
        "capath": "",
        "cert_filename": "",
        "private_key_filename": "",
        "server_name": "",
    },
}


def test_the_references_own_files_start_and_what_has_no_effect_is_named(write: Write) -> None:
    settings = read_settings(write({**PLAIN, **REFERENCE}))
    require_supported(settings)
    assert [warning.partition(": ")[2] for warning in settings.warnings] == [
        "aggregation.iid_rate has no effect: FedAvg does not use it",
        "aggregation.total_client_num has no effect: FedAvg does not use it",
        "distributed_cache.enable_ssl has no effect: the file's own enable_ssl decides",
        "encrypt.privacy_eval_type has no effect: evaluation data is neither protected nor used",
        "encrypt.laplace_eval.laplace_eval_eps has no effect: evaluation data is neither protected nor used",
        "SILHOUETTE_SCORE is not computed: unsupervisedEval stays 0.0",
    ]


def test_the_encryption_of_later_files_has_its_effect(write: Write) -> None:
    later = changed(PLAIN, "encrypt", {"encrypt_train_type": "DP_ENCRYPT", "dp_encrypt": {"dp_eps": 3.0}})
    settings = read_settings(write(later))
    assert (settings.encrypt.encrypt_type, settings.encrypt.dp_encrypt.dp_eps) == ("DP_ENCRYPT", 3.0)
    assert "encrypt_type must be one of" in refusal(write, changed(later, "encrypt.encrypt_train_type", "DP"))
    assert read_settings(write(changed(later, "encrypt.encrypt_type", "DP_ENCRYPT"))) == settings
    text = refusal(write, changed(later, "encrypt.encrypt_type", "NOT_ENCRYPT"))
    assert "encrypt.encrypt_train_type DP_ENCRYPT contradicts encrypt.encrypt_type NOT_ENCRYPT" in text
    assert with_overrides(settings, {"encrypt_type": "SIGNDS"}).encrypt.encrypt_type == "SIGNDS"


@pytest.mark.parametrize(("encrypt_type", "kept"), [("SIGNDS", False), ("PW_ENCRYPT", False), ("DP_ENCRYPT", True)])
def test_compression_gives_way_to_encryption_with_a_warning(write: Write, encrypt_type: str, kept: bool) -> None:
    content = changed(PLAIN, "encrypt", {"encrypt_type": encrypt_type, "pw_encrypt": PW})
    settings = read_settings(write(changed(content, "compression.upload_compress_type", "DIFF_SPARSE_QUANT")))
    assert (settings.compression.upload_compress_type == "DIFF_SPARSE_QUANT") is kept
    assert len(settings.warnings) == (0 if kept else 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dp_eps": 1.0}, ["--dp_eps has no effect without encrypt.encrypt_type DP_ENCRYPT"]),
        ({"sign_k": 0.1, "encrypt_type": "DP_ENCRYPT", "dp_eps": 1.0}, ["--sign_k has no effect without"]),
        (
            {"cipher_time_window": 1000},
            ["--cipher_time_window has no effect without encrypt.encrypt_type PW_"],
        ),
        ({"crl_path": "a.crl"}, ["--crl_path has no effect without enable_ssl True"]),
        ({"encrypt_type": "SIGNDS", "sign_k": 0.1}, []),
    ],
)
def test_an_option_without_effect_is_named(write: Write, options: dict[str, object], said: list[str]) -> None:
    warnings = read_settings(write(PLAIN), options).warnings
    assert [line[: len(start)] for line, start in zip(warnings, said, strict=True)] == said


@pytest.mark.parametrize(("level", "used"), [("1,2", "1,2"), ("15,5", "5,15"), ("5", "5,15"), ("a,b", "5,15")])
def test_an_unusable_participation_level_is_replaced_with_a_warning(write: Write, level: str, used: str) -> None:
    settings = read_settings(write(changed(PLAIN, "summary.participation_time_level", level)))
    assert settings.summary.participation_time_level == used
    assert bool(settings.warnings) is (level != used)


def test_query_instance_has_the_references_keys_and_float32_numbers(write: Write) -> None:
    result = query_instance(read_settings(write(changed(PLAIN, "round.update_model_ratio", 1))))
    assert list(result) == [
        *("aggregation_type", "cipher_time_window", "client_batch_size", "client_epoch_num", "client_learning_rate"),
        *("download_compress_type", "dp_delta", "dp_eps", "dp_norm_clip", "enable_ssl", "encrypt_type"),
        *("fl_iteration_num", "global_iteration_time_window", "iid_rate", "pki_verify"),
        *("reconstruct_secrets_threshold", "secure_aggregation", "share_secrets_ratio", "sign_dim_out", "sign_eps"),
        *("sign_global_lr", "sign_k", "sign_thr_ratio", "start_fl_job_threshold", "start_fl_job_time_window"),
        *("total_client_num", "update_model_ratio", "update_model_time_window", "upload_compress_type"),
        "upload_sparse_rate",
    ]
    text = json.dumps(result)
    assert '"client_learning_rate": 0.009999999776482582' in text
    assert '"update_model_ratio": 1.0' in text
    assert '"enable_ssl": false' in text


def test_new_instance_changes_what_it_names(write: Write) -> None:
    settings = read_settings(write(PLAIN))
    new = apply_new_instance(
        settings, {"start_fl_job_threshold": 5, "update_model_ratio": 1, "client_learning_rate": 1, "fl_name": "no"}
    )
    assert (new.round.start_fl_job_threshold, new.client.client_learning_rate, new.fl_name) == (5, 1.0, "Lenet")
    assert new.round.global_iteration_time_window == settings.round.global_iteration_time_window
    assert apply_new_instance(settings, {}) == settings


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"client_epoch_num": 1.0}, "Field client_epoch_num in hyper param config should be unsigned integer number"),
        ({"fl_iteration_num": -1}, "Field fl_iteration_num in hyper param config should be unsigned integer number"),
        ({"fl_iteration_num": True}, "Field fl_iteration_num in hyper param config should be unsigned integer number"),
        ({"fl_iteration_num": 2**70}, "Field fl_iteration_num in hyper param config should be unsigned integer number"),
        ({"fl_iteration_num": 0}, "Field fl_iteration_num in hyper param config should be larger than 0"),
        ({"client_learning_rate": "1"}, "Field client_learning_rate in hyper param config should be float or integer"),
        ({"client_learning_rate": None}, "Field client_learning_rate in hyper param config should be float or integer"),
        ({"client_learning_rate": float("nan")}, "Field client_learning_rate in hyper param config should be float or"),
        ({"client_learning_rate": -0.5}, "Field client_learning_rate in hyper param config should be larger than 0"),
        ({"update_model_ratio": 1.5}, "Field update_model_ratio in hyper param config should be in range of (0,1.0]"),
        ({"start_fl_job_threshold": 10**6}, "start_fl_job_threshold must be at most 131071, not 1000000"),
        (
            {"client_epoch_num": 2**40},
            "the request: client.client_epoch_num must be a whole number of at least 1 and at",
        ),
        ([], "Expect hyper param config to be json object"),
        ("x", "Expect hyper param config to be json object"),
    ],
)
def test_new_instance_refuses_in_the_references_words(write: Write, changes: object, text: str) -> None:
    with pytest.raises(OptionError) as caught:
        apply_new_instance(read_settings(write(PLAIN)), changes)
    assert str(caught.value).startswith(f"New instance failed: {text}")
