"""Signals that come while a command works, while it ends, and in the last moments of its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from mindfl.cli import main
from mindfl.cli.interrupts import _LOCKING, Interrupts
from mindfl.cli.reporting import interruptible
from mindfl.errors import InterruptedRunError, StorageError
from mindfl.system import ProcessLock

ENDING = ("SIGINT", "SIGTERM", "SIGHUP")


def in_command(body: str, *, ignored: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run ``mindfl --version`` whose work is ``body`` in a process that ignores these signals only."""
    script = f"""
import atexit, os, signal, sys
import mindfl.cli

def kill(*names):
    for name in names:
        os.kill(os.getpid(), getattr(signal, name))

class Late:
    def __init__(self, *names):
        self.names = names
        self.kill = kill

    def __del__(self):
        self.kill(*self.names)

def work(*arguments, **options):
{body}

mindfl.cli.root.main = work
sys.argv = ["mindfl"]
"""

    def ignore() -> None:
        for name in ENDING:
            signal.signal(getattr(signal, name), signal.SIG_IGN if name in ignored else signal.SIG_DFL)

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "program.py").write_text(script + "mindfl.cli.main()\n")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join((folder, *sys.path))}
        return subprocess.run(
            [sys.executable, "-m", "program"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            preexec_fn=ignore,
            env=environment,
        )


INTERRUPTED = (130, "mindfl: error: interrupted [E-INTERRUPTED]")


@pytest.mark.parametrize("name", ENDING)
def test_each_signal_ends_the_command(name: str) -> None:
    done = in_command(f"    kill({name!r}); signal.pause()")
    assert (done.returncode, done.stderr.strip()) == INTERRUPTED


def test_a_command_that_a_script_started_in_the_background_ends_on_sigterm() -> None:
    done = in_command("    kill('SIGINT', 'SIGTERM'); signal.pause()", ignored=("SIGINT",))
    assert (done.returncode, done.stderr.strip()) == INTERRUPTED


def test_ignored_signals_stay_ignored() -> None:
    done = in_command(f"    kill(*{ENDING}); print('done')", ignored=ENDING)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_interrupt_that_a_destructor_loses_is_raised_again() -> None:
    done = in_command("    late = Late('SIGTERM'); del late; signal.pause()")
    assert (done.returncode, done.stderr.strip()) == INTERRUPTED


def test_the_same_wish_twice_leaves_the_cleaning_up_alone() -> None:
    body = """
    try:
        kill("SIGTERM")
        signal.pause()
    finally:
        kill("SIGTERM", "SIGINT")
        print("cleaned up")
"""
    done = in_command(body)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "cleaned up\n", INTERRUPTED[1])


@pytest.mark.parametrize("step", ["__enter__()", "_release_save()", "_acquire_restore(None)", "wait()"])
def test_a_signal_waits_while_a_lock_changes_hands(step: str) -> None:
    """Else the lock would stay held forever, or be released twice, with a RuntimeError."""
    body = f"""
    import functools, threading, types
    signalled = functools.partial(signal.raise_signal, signal.SIGINT)
    lock = types.SimpleNamespace(acquire=signalled, release=signalled, __enter__=signalled, __exit__=signalled)
    condition = threading.Condition(lock)
    condition._is_owned = lambda: True
    if {step!r} == "wait()":
        condition._release_save = signalled
        threading._allocate_lock = lambda: types.SimpleNamespace(acquire=lambda: None)
    condition.{step}
    print("taken")
    signal.pause()
"""
    done = in_command(body)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "taken\n", INTERRUPTED[1])


def test_the_lock_of_the_package_is_one_of_these() -> None:
    assert "__enter__" in _LOCKING[ProcessLock.__module__]


def test_a_signal_ends_what_waits_for_another_thread() -> None:
    done = in_command(
        "    import threading; threading.Thread(target=kill, args=['SIGINT']).start(); threading.Event().wait()"
    )
    assert (done.returncode, done.stderr.strip()) == INTERRUPTED


def test_a_signal_while_a_class_is_compiled_from_a_text_is_an_exit_code_too() -> None:
    done = in_command("    exec('kill(\"SIGINT\"); signal.pause()', globals())")
    assert (done.returncode, done.stderr.strip()) == INTERRUPTED


def test_what_fails_because_it_was_interrupted_is_an_interrupt() -> None:
    body = """
    try:
        kill("SIGTERM")
        signal.pause()
    finally:
        raise RuntimeError("release unlocked lock")
"""
    done = in_command(body)
    assert (done.returncode, done.stderr.strip()) == INTERRUPTED


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("release unlocked lock")])
def test_the_hint_says_what_is_kept_however_the_interrupt_ends(error: BaseException) -> None:
    error.__context__ = None if isinstance(error, KeyboardInterrupt) else KeyboardInterrupt()
    with pytest.raises(InterruptedRunError) as raised, interruptible("all is kept"):
        raise error
    assert raised.value.line() == "interrupted (all is kept) [E-INTERRUPTED]"


@pytest.mark.parametrize("error", [ValueError("a defect"), StorageError("the disk is full")])
def test_other_errors_pass(error: Exception) -> None:
    with pytest.raises(type(error)), interruptible("all is kept"):
        raise error


def test_a_signal_while_the_program_is_loaded_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGINT)")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), *sys.path))}
    command = [sys.executable, "-m", "mindfl", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", INTERRUPTED[1])


@pytest.mark.parametrize("name", [*ENDING, "SIGALRM"])
@pytest.mark.parametrize(
    "body",
    [
        "    atexit.register(kill, {name!r}); print('done')",
        "    sys.late = Late({name!r}); print('done')",
        "    global late; late = Late({name!r}); print('done')",
    ],
)
def test_a_signal_in_the_last_moments_changes_no_exit_code(name: str, body: str) -> None:
    done = in_command(body.format(name=name))
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_a_signal_in_the_last_moments_of_an_interrupted_command() -> None:
    done = in_command("    global late; late = Late('SIGTERM'); kill('SIGTERM'); signal.pause()")
    assert (done.returncode, done.stderr.strip()) == INTERRUPTED


def test_called_as_a_function_it_puts_the_handlers_back(capsys: pytest.CaptureFixture[str]) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    before = ([signal.getsignal(number) for number in numbers], sys.unraisablehook)
    main(["--version"])
    assert ([signal.getsignal(number) for number in numbers], sys.unraisablehook) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_thread_may_call_it(capsys: pytest.CaptureFixture[str]) -> None:
    failures: list[BaseException] = []

    def call() -> None:
        try:
            main(["--version"])
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert not failures and "version" in capsys.readouterr().out


def test_nothing_is_raised_once_it_is_settled() -> None:
    interrupts = Interrupts()
    try:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        interrupts.settle()
        os.kill(os.getpid(), signal.SIGALRM)
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        interrupts.restore()
