"""Folders of bins, changed: samples come out, or an error that names the user."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from fuzz_budget import budget, fuzz
from fuzz_mutations import changed
from hypothesis import given
from hypothesis import strategies as st

from mindfl.data import check_dataset, open_dataset
from mindfl.data.samples import Samples
from mindfl.data.writer import write_dataset
from mindfl.errors import DataError

USER = "f0000"


def _seed() -> dict[str, bytes]:
    """Return the files of one user: three training samples in batches of two, one test sample."""
    rng = np.random.default_rng(5)
    train, test = (Samples(rng.integers(0, 256, (n, 32, 32), np.uint8), rng.integers(0, 62, n)) for n in (3, 1))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "set")
        with write_dataset(root, format="bin", source="test", batch_size=2) as writing:
            writing.writer.add(USER, train, test)
        return {path.name: path.read_bytes() for path in (root / USER).iterdir()}


SEED = _seed()
MANIFEST = json.loads(SEED["manifest.json"])


def _read(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        user = Path(folder, "set", USER)
        user.mkdir(parents=True)
        for name, content in files.items():
            (user / name).write_bytes(content)
        size = sum(map(len, files.values()))
        with budget(memory=20 * size + 2**20, calls=size + 200_000):
            try:
                dataset = open_dataset(user.parent)
                problems = list(check_dataset(dataset))
                if not problems:
                    data = dataset.user(USER)
                    for part in (data.train, data.test):
                        assert len(part.images()) == part.size > 0
            except DataError as error:
                problems = [error]
        for problem in problems:
            assert USER in str(problem) or "set" in str(problem)
            assert "\n" not in problem.line()


def test_the_seed_is_read() -> None:
    _read(SEED)


@fuzz(60)
@given(data=st.data())
def test_changed_files(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(SEED)))
    _read({**SEED, name: data.draw(changed(SEED[name]))})


_VALUES: st.SearchStrategy[object] = st.sampled_from(
    [None, True, -1, 0, 1, 2, 3, 4, 2**70, 1.0, "1", [], {}, {"samples": 3}, float("inf")]
)


@fuzz(100)
@given(key=st.sampled_from(sorted(MANIFEST)), inner=st.sampled_from(["", "samples", "batches"]), value=_VALUES)
def test_changed_manifests(key: str, inner: str, value: object) -> None:
    entry = {**MANIFEST[key], inner: value} if inner and isinstance(MANIFEST[key], dict) else value
    _read({**SEED, "manifest.json": json.dumps({**MANIFEST, key: entry}).encode()})


_NAMES = st.sampled_from(["data", "label"]).flatmap(
    lambda what: st.sampled_from(["0", "1", "2", "3", "999999999", "0000000002", "-1", "x"]).map(
        lambda batches: f"{USER}_bn_{batches}_train_{what}.bin"
    )
)


@fuzz(60)
@given(old=st.sampled_from(sorted(SEED)), new=_NAMES, copy=st.booleans(), manifest=st.booleans())
def test_renamed_files(old: str, new: str, copy: bool, manifest: bool) -> None:
    files = {**SEED, new: SEED[old]}
    if not copy and old != new:
        del files[old]
    if not manifest:
        files.pop("manifest.json", None)
    _read(files)


@pytest.mark.parametrize("name", sorted(SEED))
def test_each_file_missing_or_empty(name: str) -> None:
    _read({**SEED, name: b""})
    _read({other: content for other, content in SEED.items() if other != name})
