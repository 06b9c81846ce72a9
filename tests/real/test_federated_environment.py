"""Finding a Python for the real server, and making its environment once. The Pythons are stand-ins."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from federated_standins import program, standin_base, standin_python

from mindfl.errors import FetchError, OptionError, SimulationError, StorageError
from mindfl.real import install
from mindfl.real.federated_environment import PINS

WORKS = """echo "Collecting mindspore==2.0.0"
echo "  Downloading mindspore-2.0.0-cp39.whl (215.1 MB)"
echo "Installing collected packages: mindspore"
echo "$@" >> "$MINDFL_CACHE/pip_calls\""""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, an empty PATH but for the shell's programs, and no pyenv."""
    cache = tmp_path / "a cäche"
    cache.mkdir()
    monkeypatch.setenv("MINDFL_CACHE", str(cache))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.delenv("MINDFL_OFFLINE", raising=False)
    return cache


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is first on PATH; of the rest only what shell scripts need is kept."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("rm", "mkdir", "cat", "chmod", "sleep", "touch", "ls"):
        real = next(Path(place, name) for place in ("/bin", "/usr/bin") if Path(place, name).exists())
        (folder / name).symlink_to(real)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def calls(cache: Path) -> list[str]:
    return (cache / "pip_calls").read_text().splitlines()


def test_no_old_python(cache: Path, path: Path) -> None:
    with pytest.raises(SimulationError, match=r"no Python 3\.9, 3\.8, 3\.7") as caught:
        install()

    assert "--python" in caught.value.hint


def test_a_python_that_is_only_a_shim(cache: Path, path: Path) -> None:
    program(path / "python3.9", "echo 'python3.9: command not found' >&2; exit 127")

    with pytest.raises(SimulationError, match="no Python"):
        install()


def test_one_under_pyenv_is_found(cache: Path, path: Path, tmp_path: Path) -> None:
    standin_base(tmp_path / "pyenv" / "versions" / "3.9.18" / "bin" / "python", WORKS)

    assert install().is_file()


def test_environment_is_made_once_and_kept(cache: Path, path: Path) -> None:
    standin_base(path / "python3.9", WORKS)
    told: list[str] = []

    first, second = install(report=told.append), install()

    assert first == second
    assert first.is_relative_to(cache / "real_server")
    [call] = calls(cache)
    assert all(pin in call for pin in PINS)
    assert "downloading mindspore-2.0.0-cp39.whl (215.1 MB)" in told
    assert "installing: mindspore" in told
    assert not any("Collecting" in line for line in told)


def test_two_at_once_install_once(cache: Path, path: Path) -> None:
    standin_base(path / "python3.9", WORKS + "\nsleep 0.2")

    with ThreadPoolExecutor(4) as threads:
        results = set(threads.map(lambda _: install(), range(4)))

    assert len(results) == 1
    assert len(calls(cache)) == 1


def test_offline_says_so_in_one_line(cache: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    standin_base(path / "python3.9", WORKS)
    monkeypatch.setenv("MINDFL_OFFLINE", "1")

    with pytest.raises(FetchError, match="not in the cache and MINDFL_OFFLINE is set"):
        install()

    assert not (cache / "pip_calls").exists()


def test_what_is_installed_serves_offline(cache: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    standin_base(path / "python3.9", WORKS)
    python = install()
    monkeypatch.setenv("MINDFL_OFFLINE", "1")

    assert install() == python


def test_pip_that_fails_is_quoted_and_its_downloads_are_used_again(cache: Path, path: Path) -> None:
    fails = 'touch "${7}/wheel"; echo "ERROR: No space left on device" >&2; echo "done"; exit 1'
    keeps = 'mkdir -p "${7}"'
    standin_base(path / "python3.9", f"{keeps}\n{fails}")
    with pytest.raises(FetchError, match="No space left on device") as caught:
        install()
    assert "mindfl server install" in caught.value.hint

    standin_base(path / "python3.9", 'ls "${7}" >> "$MINDFL_CACHE/pip_calls"')
    install()

    assert calls(cache) == ["wheel"]
    assert not list((cache / "real_server").glob("*.downloads"))


def test_environment_that_does_not_work_is_not_kept(cache: Path, path: Path) -> None:
    standin_base(path / "python3.9", "exit 0")
    base = (path / "python3.9").read_text().replace("exit 0\nEND", "echo no module >&2; exit 1\nEND")
    (path / "python3.9").write_text(base)

    with pytest.raises(FetchError, match="no module"):
        install()

    assert not list((cache / "real_server").glob("*/complete"))


def test_cache_folder_that_cannot_be_made(cache: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    standin_base(path / "python3.9", WORKS)
    (cache / "file").touch()
    monkeypatch.setenv("MINDFL_CACHE", str(cache / "file"))

    with pytest.raises(StorageError, match="file"):
        install()


def test_named_python_that_has_the_package_is_used_itself(cache: Path, tmp_path: Path) -> None:
    python = standin_python(tmp_path / "a place" / "python")

    assert install(python) == python


@pytest.mark.parametrize("name", ["./python-here", Path("./python-here")])
def test_named_python_in_the_current_folder(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | Path
) -> None:
    python = standin_python(tmp_path / "python-here")
    monkeypatch.chdir(tmp_path)

    assert install(name) == python


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nowhere/python3.9", "is no program"),
        ("/", "is no program"),
        (sys.executable, f"is Python {sys.version_info[0]}.{sys.version_info[1]}, but"),
        ("/bin/true", "is no Python that runs"),
        ("/bin/echo", "is no Python that runs"),
    ],
)
def test_unusable_named_python(cache: Path, name: str, reason: str) -> None:
    with pytest.raises(OptionError, match="python: ") as caught:
        install(name)

    assert reason in str(caught.value)
    assert os.sep in str(caught.value)
