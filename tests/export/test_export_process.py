"""MindSpore in a process of its own: its end, its failures, and what has to stay in this process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from made_once import all_made

from mindfl.cli import doctor
from mindfl.convert.mindir import parameters, read_mindir
from mindfl.errors import ExportError, OptionError, StorageError
from mindfl.export import export_mindir, process
from mindfl.export.process import in_child, last_words
from mindfl.models import first_sentence
from mindfl.models.initializers import initializer

OWN_NETWORK = """
import sys, threading
import numpy as np
from mindfl.errors import MindflError
from mindfl.export import export_mindir
from mindfl.models import MODELS, ModelSpec, import_mindspore

def register(name, hidden):
    def build(num_class, num_channel, *, init, seed):
        mindspore = import_mindspore()
        nn = mindspore.nn

        class Net(nn.Cell):
            def __init__(self):
                super().__init__()
                self.flatten, self.relu = nn.Flatten(), nn.ReLU()
                self.fc1 = nn.Dense(num_channel * 64, hidden)
                self.fc2 = nn.Dense(hidden, num_class)

            def construct(self, x):
                return self.fc2(self.relu(self.fc1(self.flatten(x))))

        return Net()

    MODELS[name] = ModelSpec(name, build, image_size=(8, 8), num_class=4, num_channel=1)

register("small", 3)
register("large", 5)
"""


@pytest.fixture(scope="module", autouse=True)
def _all_made() -> Iterator[None]:
    with all_made():
        yield


def run_script(tmp_path: Path, body: str, **environment: str) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "script.py"
    script.write_text(OWN_NETWORK + textwrap.dedent(body))
    return subprocess.run(
        [sys.executable, script.name],
        cwd=tmp_path,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def test_mindspore_stays_out_of_this_process(tmp_path: Path) -> None:
    done = run_script(tmp_path, "export_mindir('net', batch_size=1); print('mindspore' in sys.modules)")
    assert (done.stdout, done.stderr) == ("False\n", "")


@pytest.mark.slow
def test_threads_that_export_at_the_same_time(tmp_path: Path) -> None:
    threads = [
        threading.Thread(target=export_mindir, args=(tmp_path / f"net{seed}",), kwargs={"seed": seed, "batch_size": 1})
        for seed in (5, 6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in (5, 6):
        found = parameters(read_mindir(tmp_path / f"net{seed}.mindir"))["conv1.weight"]
        assert (found == initializer("lecun", seed)((6, 3, 5, 5))).all()


def test_networks_of_the_main_module_in_several_threads(tmp_path: Path) -> None:
    body = """
    def export(name):
        shapes[name] = export_mindir(name, model=name, batch_size=2).parameters["fc1.weight"]

    shapes = {}
    threads = [threading.Thread(target=export, args=(name,)) for name in ("small", "large")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(shapes["small"], shapes["large"])
    """
    done = run_script(tmp_path, body)
    assert done.stdout == "(3, 64) (5, 64)\n", done.stderr


@pytest.mark.slow
def test_after_a_fork_what_cannot_work_is_refused(tmp_path: Path) -> None:
    body = """
    import multiprocessing

    def export(name):
        try:
            export_mindir(name, model=name, batch_size=2)
        except MindflError as error:
            print(error.line(), flush=True)
        else:
            print(name, flush=True)

    import_mindspore()
    for name in ("small", "lenet"):
        process = multiprocessing.get_context("fork").Process(target=export, args=(name,))
        process.start()
        process.join()
    """
    done = run_script(tmp_path, body)
    refused, exported = done.stdout.splitlines()
    assert "MindSpore was loaded before this process was forked" in refused and refused.endswith("[E-EXPORT]")
    assert exported == "lenet"


FAILURES = {
    "raise TypeError('Descriptors cannot be created directly.\\nIf this call came from a _pb2.py file ...')": (
        "MindSpore cannot be imported: Descriptors cannot be created directly.",
        "another package may not fit it",
    ),
    "raise ImportError('libgomp.so.1: cannot open shared object file: No such file or directory')": (
        "MindSpore cannot be imported: libgomp.so.1: cannot open shared object file",
        "install the system library",
    ),
    "open('/no/such/temporary/folder/x', 'w')": ("MindSpore cannot be imported: [Errno 2] No such file", ""),
    "import sys; sys.exit('too old')": ("MindSpore cannot be imported: too old", ""),
    "import no_such_package": ("MindSpore cannot be imported: No module named 'no_such_package'", "may not fit it"),
    "import sys, os; print('RuntimeError: no room', file=sys.stderr, flush=True); os.abort()": (
        "MindSpore was ended by SIGABRT: RuntimeError: no room",
        "mindfl doctor",
    ),
    "import os, signal; os.kill(os.getpid(), signal.SIGKILL)": ("MindSpore was ended by SIGKILL", "memory"),
    "import os; os._exit(3)": ("MindSpore ended with exit status 3: it gave no reason", ""),
}


@pytest.fixture
def broken(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """Return a function that makes a MindSpore whose import does something; it returns the environment with it."""

    def make(source: str) -> dict[str, str]:
        package = tmp_path / "packages" / "mindspore"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(source)
        return {**os.environ, "PYTHONPATH": str(package.parent)}

    return make


@pytest.mark.parametrize(("source", "expected"), FAILURES.items())
def test_a_mindspore_that_fails_is_one_line(
    broken: Callable[..., dict[str, str]], monkeypatch: pytest.MonkeyPatch, source: str, expected: tuple[str, str]
) -> None:
    monkeypatch.syspath_prepend(broken(source)["PYTHONPATH"])
    with pytest.raises(ExportError) as caught:
        process.try_import()
    assert str(caught.value).startswith(expected[0]) and expected[1] in caught.value.hint


def test_the_doctor_says_so(broken: Callable[..., dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(broken("import os; os.abort()")["PYTHONPATH"])
    monkeypatch.setenv("PATH", "")  # it shall not start every program that it would look for
    monkeypatch.setenv("PYENV_ROOT", os.devnull)
    finding = next(finding for finding in doctor.examine() if finding.name == "MindSpore")
    assert not finding.present and "MindSpore was ended by SIGABRT" in finding.found


def test_a_mindspore_that_aborts_ends_the_command_with_its_own_exit_code(
    broken: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "mindfl", "export", "--mindir_path", str(tmp_path / "net")]
    environment = broken("import os; os.abort()")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (ExportError.exit_code, "")
    assert len(done.stderr.splitlines()) == 1 and "was ended by SIGABRT" in done.stderr
    assert not list(tmp_path.glob("*net*"))


def test_own_networks_do_not_bring_the_process_down_either(broken: Callable[..., object], tmp_path: Path) -> None:
    broken("import os; os.abort()")
    body = """
    sys.path.insert(0, "packages")
    try:
        export_mindir("net", model="small")
    except MindflError as error:
        print(error.line())
    """
    done = run_script(tmp_path, body)
    assert "MindSpore was ended by SIGABRT" in done.stdout, done.stderr


def test_no_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(StorageError, match="temporary folder"):
        export_mindir(tmp_path / "net", batch_size=1)


def test_a_temporary_folder_with_any_letters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "größe 模型"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    assert export_mindir(tmp_path / "net", batch_size=1).path.is_file()
    assert list(folder.iterdir()) == []


def test_errors_come_back_as_they_are() -> None:
    with pytest.raises(OptionError, match="unknown initialisation 'x'") as caught:
        in_child(initializer, "x", 0)
    assert caught.value.hint == "choose one of lecun, he, torch, truncated_normal"


def test_nothing_is_left_where_the_parent_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mindfl", "export", f"--mindir_path={tmp_path}/net", "--epochs=100000"]
    parent = subprocess.Popen(command, env={**os.environ, "TMPDIR": str(tmp_path)})
    while not [*tmp_path.rglob("mindfl-export.*")]:
        with pytest.raises(subprocess.TimeoutExpired):
            parent.wait(0.1)
    (child,) = psutil.Process(parent.pid).children()
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _, alive = psutil.wait_procs([child], timeout=60)
    assert not alive


RULE = "-" * 52


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"{RULE}\n- Kernel Select Failed:\n{RULE}\nReLU has no kernel. Try another.\n", "ReLU has no kernel"),
        (f"\n{RULE}\n\nThe shape is wrong.\n{RULE}\n- C++ Call Stack:\n{RULE}\nx.cc:1", "The shape is wrong."),
        (f"Only Tensor. More.\n\n{RULE}\n- The Traceback of Net Construct Code:\n{RULE}\n# 0", "Only Tensor"),
        (RULE, "RuntimeError"),
        ("", "RuntimeError"),
    ],
)
def test_first_sentence(text: str, sentence: str) -> None:
    assert first_sentence(RuntimeError(text)) == sentence


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("", "it gave no reason"),
        ("one\ntwo\n", "two"),
        ("terminate called after throwing\n  what():  bad_alloc\nFatal Python error: Aborted\n\nstack", "bad_alloc"),
        ("[ERROR] ME(1:2,x):2026 [a.cc:1] Run] Out of room\nFatal Python error: Aborted", "Out of room"),
        ("Fatal Python error: Aborted\n\nthread 1\n", "Fatal Python error: Aborted"),
    ],
)
def test_last_words(log: str, reason: str) -> None:
    assert last_words(log) == reason
