"""Are these files what Java can start? Asked before any client is started, as Java's own answers are hard to read."""

from __future__ import annotations

import zipfile
from pathlib import Path

from mindfl.errors import OptionError, StorageError
from mindfl.sim.java.settings import JavaSettings

MAIN_CLASS = "com.mindspore.flclient.SyncFLJob"
_MANIFEST = "META-INF/MANIFEST.MF"


def check_jars(settings: JavaSettings) -> None:
    """Raise :class:`OptionError` or :class:`StorageError` naming the jar that cannot be used, and why.

    Without MindSpore Lite's jar the folders become Java's module path: as the tutorial demands, ``jarPath`` and
    ``case_jarPath`` must then be the only jars in their folders.
    """
    jars = {"jarPath": settings.jar_path, "case_jarPath": settings.case_jar_path}
    if settings.lite_jar_path is not None:
        jars["lite_jar_path"] = settings.lite_jar_path
    contents = {option: _contents(jar, option) for option, jar in jars.items()}
    if settings.lite_jar_path is None:
        for option, jar in jars.items():
            _check_alone(jar, option)
        _check_main_class(settings.jar_path, contents["jarPath"])
    elif not any(f"{MAIN_CLASS.replace('.', '/')}.class" in names for names in contents.values()):
        raise OptionError(
            f"--jarPath {settings.jar_path} does not hold {MAIN_CLASS}", hint="is that the federated learning jar?"
        )


def _check_main_class(jar: Path, names: frozenset[str]) -> None:
    if _MANIFEST not in names or b"Main-Class:" not in _member(jar, _MANIFEST):
        raise OptionError(
            f"--jarPath {jar} names no main class in its manifest, so java -jar cannot start it",
            hint="is that the federated learning jar? One of MindSpore Federated 0.1.0 needs --lite_jar_path too",
        )


def _contents(jar: Path, option: str) -> frozenset[str]:
    try:
        if not jar.is_file():
            what = "is a folder" if jar.is_dir() else "does not exist"
            raise OptionError(f"--{option} {jar} {what}", hint="build the jar, or correct the path")
        with zipfile.ZipFile(jar) as archive:
            return frozenset(archive.namelist())
    except OSError as error:
        raise StorageError.from_os_error(error, "read", jar) from None
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        raise OptionError(f"--{option} {jar} is not a jar (or a damaged one)", hint="build or copy it again") from None


def _member(jar: Path, name: str) -> bytes:
    try:
        with zipfile.ZipFile(jar) as archive, archive.open(name) as file:
            return file.read(2**20)
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError, EOFError):
        raise OptionError(f"--jarPath {jar} is a damaged jar: its manifest cannot be read") from None


def _check_alone(jar: Path, option: str) -> None:
    try:
        others = sorted(path.name for path in jar.parent.iterdir() if path.suffix == ".jar" and path.name != jar.name)
    except OSError as error:
        raise StorageError.from_os_error(error, "read", jar.parent) from None
    if others:
        raise OptionError(
            f"--{option}: the folder {jar.parent} must hold only {jar.name}, but it also holds {others[0]}",
            hint="give each jar a folder of its own",
        )
