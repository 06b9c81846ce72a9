"""What a file is that was taken for a model."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mindfl.errors import MindflError, ModelFormatError
from mindfl.filekind import file_kind
from mindfl.lite import LiteModel
from mindfl.server.ckpt import encode_ckpt
from mindfl.server.initial import initial_weights


def _zip(name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, b"content")
    return file.getvalue()


def _tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("lenet.ms"))
    return file.getvalue()


def _npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, weight=np.ones(3, np.float32))
    return file.getvalue()


KINDS: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "empty"),
    "five bytes": (lambda: b"\x14\0\0\0M", "cut off after 5 bytes"),
    "zeros": (lambda: bytes(4096), "full of zeros"),
    "Lite 1.0": (lambda: b"\x14\0\0\0MSL1" + bytes(100), r"MindSpore Lite 1\.0 or 1\.1 \(identifier MSL1\).*another"),
    "before Lite 1.0": (lambda: b"\x14\0\0\0MSL0" + bytes(100), "MSL0"),
    "a later Lite": (lambda: b"\x14\0\0\0MSL3" + bytes(100), "format that mindfl does not know"),
    "zip": (lambda: _zip("lenet.ms"), "a zip archive.*unpack it"),
    "npz": (_npz, r"NumPy archive \(\.npz\): weights without a graph"),
    "torch": (lambda: _zip("archive/data.pkl"), "PyTorch checkpoint"),
    "tar": (_tar, "a tar archive.*unpack it"),
    "gzip": (lambda: gzip.compress(b"x" * 100), "a gzip archive"),
    "checkpoint": (lambda: encode_ckpt({"conv1.weight": np.ones((2, 3), np.float32)}), "MindSpore checkpoint"),
    "tflite": (lambda: b"\x1c\0\0\0TFL3" + bytes(50), "TensorFlow Lite"),
    "web page": (lambda: b"<!DOCTYPE html>\n<html><body>Not found</body></html>", "a web page.*download it again"),
    "lfs": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS pointer"),
    "text": (lambda: "Ein schönes Modell\n".encode(), "it is text"),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_is_no_model_of_this_format_is_called_what_it_is(name: str, tmp_path: Path) -> None:
    make, text = KINDS[name]
    path = tmp_path / "lenet.ms"
    path.write_bytes(make())
    with pytest.raises(ModelFormatError) as caught:
        LiteModel.load(path)
    assert caught.match(r"lenet\.ms: the file is ")
    with pytest.raises(ModelFormatError, match=text):
        raise ModelFormatError(caught.value.line())


def test_a_mindir_is_called_so_and_how_to_convert_it(exported: Callable[..., Path]) -> None:
    with pytest.raises(ModelFormatError) as caught:
        LiteModel.load(exported())
    assert "it is a MINDIR" in str(caught.value)
    assert "mindfl convert" in caught.value.hint


def test_unknown_bytes_get_no_name() -> None:
    assert file_kind(np.random.default_rng(1).bytes(2000)) is None


def test_an_old_model_as_the_servers_first_one_is_called_so(tmp_path: Path) -> None:
    path = tmp_path / "old.ms"
    path.write_bytes(KINDS["Lite 1.0"][0]())
    with pytest.raises(MindflError, match=r"old\.ms: .*MSL1"):
        initial_weights(path)
