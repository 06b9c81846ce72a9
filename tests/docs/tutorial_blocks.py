"""The commands of a tutorial, a terminal that runs them, and what it means that an output is the one shown."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
from free_ports import free_port

REPOSITORY = Path(__file__).parents[2]
#: the port in the tutorials; a free one is taken instead, since others may use the machine
PORT = "6666"
BLOCK_SECONDS = 600

_FENCE = re.compile(r"^(?:<!-- needs: (?P<needs>\w+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
_LOOSE = re.compile(
    r"(?P<lines>^\.\.\.\n)"
    r"|(?P<anything>\.\.\.)"
    r"|(?P<list>\[[-\d., e]+\])"
    r"|(?P<fraction>(?<![\d.])-?\d[\d,]*\.\d+(?:e[-+]?\d+)?(?![\d.]))",
    re.M,
)
_FREE = {
    "lines": r"(?:[^\n]*\n)*?",
    "anything": r"[^\n]*",
    "list": r"\[[-+\d., e]+\]",
    "fraction": r"-?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?",
}


@dataclass(frozen=True)
class Block:
    """Commands in bash, or a program in Python. ``output``: what it prints on standard output."""

    number: int
    language: str
    needs: str
    code: str
    output: str = ""


def blocks(text: str) -> list[Block]:
    """Return the blocks of a tutorial. A fence with ``text`` shows the output of the block before it."""
    found: list[Block] = []
    for fence in _FENCE.finditer(text):
        language, content = fence["language"], fence["text"]
        if language == "text":
            assert found and not found[-1].output, f"whose output is this?\n{content}"
            found[-1] = replace(found[-1], output=content)
        else:
            found.append(Block(len(found), language, fence["needs"] or "", content))
    return found


def shown_as(output: str) -> re.Pattern[str]:
    """Return what ``output``, as a tutorial shows it, stands for.

    A line ``...`` stands for any lines, ``...`` in a line for any text, a decimal fraction for any number, a list of
    numbers in brackets for any such list. All else, whole numbers included, stands for itself.
    """
    pattern, end = "", 0
    for found in _LOOSE.finditer(output):
        assert found.lastgroup is not None
        pattern += re.escape(output[end : found.start()]) + _FREE[found.lastgroup]
        end = found.end()
    return re.compile(pattern + re.escape(output[end:]))


class Terminal:
    """Runs the blocks of one tutorial in one folder, each once, in order."""

    def __init__(self, root: Path, tutorial: list[Block]) -> None:
        self.folder = root / "the tutorial ö"
        self.folder.mkdir()
        self._root = root
        self._tutorial = tutorial
        self._port = str(free_port())
        self._outputs: dict[int, str] = {}
        self._environment = {
            **os.environ,
            "PATH": os.pathsep.join([str(_program(root)), str(REPOSITORY / "tools" / "converter"), os.environ["PATH"]]),
            "MINDFL_PYTHON": sys.executable,
            "TUTORIAL": str(self.folder),
        }

    def run_up_to(self, number: int) -> None:
        """Run the blocks before this one, but for those that need something."""
        for block in self._tutorial[:number]:
            if not block.needs:
                self.run(block)

    def run(self, block: Block) -> str:
        """Return what the block prints, running it if it was not yet."""
        if block.number not in self._outputs:
            self.run_up_to(block.number)
            self._outputs[block.number] = "(it failed)"
            self._outputs[block.number] = self._run(block)
        return self._outputs[block.number]

    def shown(self, block: Block) -> str:
        """Return the output that the tutorial shows, as it is for this terminal's port."""
        return block.output.replace(PORT, self._port)

    def _run(self, block: Block) -> str:
        code = block.code.replace(PORT, self._port)
        command = (
            [sys.executable, "-c", code] if block.language == "python" else ["bash", "-euo", "pipefail", "-c", code]
        )
        out, errors = (self._root / f"{block.number}.{kind}" for kind in ("out", "err"))
        # Files, not pipes: a server that continues in the background would keep a pipe open.
        with out.open("wb") as to_out, errors.open("wb") as to_errors:
            done = subprocess.run(
                command,
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=to_out,
                stderr=to_errors,
                timeout=BLOCK_SECONDS,
            )
        told = out.read_text()
        assert done.returncode == 0, f"block {block.number}:\n{code}\n{told}\n{errors.read_text()}"
        return told

    def processes(self) -> list[psutil.Process]:
        """Return what was started here and still runs."""
        return [process for process in psutil.process_iter() if self._is_here(process)]

    def _is_here(self, process: psutil.Process) -> bool:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            # A program may overwrite its environment, and leave its folder, but hardly both.
            here = process.environ().get("TUTORIAL") == str(self.folder)
            return here or Path(process.cwd()).is_relative_to(self.folder)
        except psutil.Error:
            return False

    def close(self) -> None:
        """Kill what still runs."""
        left = self.processes()
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=30)


def _program(root: Path) -> Path:
    """Make a folder with a ``mindfl`` that is that of this interpreter."""
    folder = root / "bin"
    folder.mkdir()
    program = folder / "mindfl"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mindfl "$@"\n')
    program.chmod(0o755)
    return folder
