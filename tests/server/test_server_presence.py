"""Records that live as long as their process."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

import mindfl
from mindfl.errors import StorageError
from mindfl.server.running import Presence, is_alive, living

CHILD = """
import sys
from pathlib import Path
from mindfl.server.running import Presence
presence = Presence(Path(sys.argv[1]))
presence.write("a child's")
print("written", flush=True)
sys.stdin.read()
"""


def child(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(Path(mindfl.__file__).parents[1])},
    )
    assert process.stdout is not None and process.stdout.readline() == "written\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_a_record_is_there_until_it_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / "ä b"
    assert living(folder) == []
    presences = [Presence(folder / f"{number}.json") for number in (2, 1)]
    for presence in presences:
        presence.write("first")
        presence.write("état")
    assert living(folder) == ["état", "état"]
    assert (folder / "1.json").stat().st_mode & 0o777 == 0o600
    for presence in presences:
        presence.close()
    assert living(folder) == [] and list(folder.iterdir()) == []


def test_the_record_of_a_killed_process_is_removed_by_whoever_looks(tmp_path: Path) -> None:
    process = child(tmp_path / "x.json")
    assert living(tmp_path) == ["a child's"]
    kill(process)
    assert (tmp_path / "x.json").exists()
    assert living(tmp_path) == [] and list(tmp_path.iterdir()) == []


def test_who_comes_next_has_the_place(tmp_path: Path) -> None:
    process = child(tmp_path / "x.json")
    kill(process)
    presence = Presence(tmp_path / "x.json")
    presence.write("mine")
    assert living(tmp_path) == ["mine"]
    presence.close()


def test_while_somebody_has_the_place_the_next_one_waits(tmp_path: Path) -> None:
    process, taken = child(tmp_path / "x.json"), threading.Event()

    def take() -> None:
        presence = Presence(tmp_path / "x.json")
        presence.write("mine")
        taken.set()

    thread = threading.Thread(target=take)
    thread.start()
    assert not taken.wait(0.2)
    kill(process)
    thread.join(60)
    assert taken.is_set() and living(tmp_path) == ["mine"]


@pytest.mark.parametrize("content", [b"", b"\xff", b"{"])
def test_a_record_without_a_process_is_nobody(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    assert not is_alive(tmp_path / "x.json")
    assert list(tmp_path.iterdir()) == []
    assert not is_alive(tmp_path / "no folder" / "x.json")


def test_a_place_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        Presence(tmp_path / "file" / "x.json")
