"""Stand-ins for the interpreters and the Redis of a real stack: small programs, so that only the driver is tested."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

STANDIN = Path(__file__).with_name("standin")

_ENTRY = """
import runpy, sys
sys.path.insert(0, {folder!r})
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def program(path: Path, text: str) -> Path:
    """Write a shell script that can be run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def standin_python(path: Path) -> Path:
    """Make a "Python 3.9 with MindSpore Federated" that runs ``federated_entry.py`` with the stand-in package."""
    code = shlex.quote(_ENTRY.format(folder=str(STANDIN)))
    answer = '["3.9", ["ensurepip", "venv", "mindspore_federated"]]'
    return program(
        path, f'if [ "$2" = -c ]; then echo \'{answer}\'; exit; fi\nshift\nexec {sys.executable} -c {code} "$@"'
    )


def standin_redis(folder: Path) -> Path:
    """Make a ``redis-server`` that says that it is ready, keeps what it was told, and waits."""
    text = 'printf "%s\\n" "$@" > told\necho "* Ready to accept connections tcp"\nexec sleep 3600'
    return program(folder / "redis-server", text)


def standin_base(path: Path, pip: str) -> Path:
    """Make a "Python 3.9" whose virtual environments have a Python that does ``pip``, a shell script, as its pip."""
    inner = f'#!/bin/sh\nif [ "$2" = pip ]; then\n{pip}\nfi\nexit 0'
    making = (
        f"""rm -rf "$4"; mkdir -p "$4/bin"; cat > "$4/bin/python" <<'END'\n{inner}\nEND\nchmod +x "$4/bin/python\""""
    )
    answer = '["3.9", ["ensurepip", "venv"]]'
    return program(path, f"if [ \"$2\" = -c ]; then echo '{answer}'; exit; fi\n{making}")
