"""Settings files, changed by the byte and by the line: settings come out, or an error of one line."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from fuzz_budget import budget, fuzz
from fuzz_mutations import changed
from hypothesis import given
from hypothesis import strategies as st

from mindfl.errors import OptionError
from mindfl.server.settings import JobSettings, read_settings, require_supported

SEED = """\
fl_name: Lenet
fl_iteration_num: 25
server_mode: FEDERATED_LEARNING
enable_ssl: false
distributed_cache: {type: redis, address: "127.0.0.1:6379", plugin_lib_path: ""}
round:
  start_fl_job_threshold: 2
  start_fl_job_time_window: 30000
  update_model_ratio: 1.0
  update_model_time_window: 30000
  global_iteration_time_window: 60000
summary: &files
  metrics_file: "metrics.json"
  failure_event_file: 'event.txt'
  participation_time_level: "5,15"
encrypt:
  encrypt_type: NOT_ENCRYPT
  pw_encrypt: {share_secrets_ratio: 1.0, cipher_time_window: 30000, reconstruct_secrets_threshold: 2}
compression: {upload_compress_type: NO_COMPRESS, upload_sparse_rate: 0.4}
client:
  http_url_prefix: ""
  client_epoch_num: 1
  client_learning_rate: 0.01
"""
VALUES = (
    *("", "~", "[]", "{}", "[1, 2]", "{a: b}", "*files", "&files 1", "<<", "!!python/object:os.system x", "!!binary a"),
    *("0", "-1", "1e400", "-.inf", ".nan", "0x7fffffffffffffff", "9" * 400, "1_0", "0o7", "12:30:45", "2026-11-22"),
    *("yes", "true", "'", '"', "'\\x00'", '"\\ud800"', "|", ">", "? a", "- a", "#", "%", "@", "\t", "\x85", "\ufeff"),
    *("NOT_ENCRYPT", "PW_ENCRYPT", "redis", "a" * 5000, "é" * 50),
)


def _read(content: bytes) -> JobSettings | None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "fl.yaml")
        path.write_bytes(content)
        try:
            with budget(memory=400 * len(content) + 2**20, calls=900 * len(content) + 200_000):
                settings = read_settings(path)
        except OptionError as error:
            assert str(path) in str(error) and "\n" not in error.line()
            return None
    try:
        require_supported(settings)
        settings.server_config()
    except OptionError as error:
        assert "\n" not in error.line()
    return settings


def test_the_seed_is_read() -> None:
    assert _read(SEED.encode()) is not None


@fuzz(100)
@given(content=changed(SEED.encode()))
def test_changed_bytes(content: bytes) -> None:
    _read(content)


def _value(line: str, other: str, value: str) -> list[str]:
    return [f"{line.partition(':')[0]}: {value}"]


def _key(line: str, other: str, value: str) -> list[str]:
    return [f"{value}:{line.partition(':')[2]}"]


def _indented(line: str, other: str, value: str) -> list[str]:
    return ["  " + line]


def _outdented(line: str, other: str, value: str) -> list[str]:
    return [line.lstrip()]


def _followed(line: str, other: str, value: str) -> list[str]:
    return [line, other]


def _merged(line: str, other: str, value: str) -> list[str]:
    return [line, line[: len(line) - len(line.lstrip())] + "<<: *files"]


def _gone(line: str, other: str, value: str) -> list[str]:
    return []


_LINES = SEED.splitlines()
_CHANGE = st.tuples(
    st.sampled_from((_value, _value, _value, _key, _indented, _outdented, _followed, _merged, _gone)),
    st.integers(0, len(_LINES) - 1),
    st.sampled_from(_LINES),
    st.sampled_from(VALUES),
)


@fuzz(120)
@given(changes=st.lists(_CHANGE, min_size=1, max_size=3))
def test_changed_lines(changes: list[tuple[object, int, str, str]]) -> None:
    lines = list(_LINES)
    for change, number, other, value in changes:
        at = min(number, len(lines) - 1)
        assert callable(change)
        lines[at : at + 1] = change(lines[at], other, value)
    _read("\n".join(lines).encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("value", VALUES)
def test_every_odd_value_of_a_number(value: str) -> None:
    _read(SEED.replace("start_fl_job_threshold: 2", f"start_fl_job_threshold: {value}").encode())
