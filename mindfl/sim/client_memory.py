"""What clients remember from one iteration to the next: values of their upload modes, arrays of their algorithms.

A file per client and iteration holds the arrays, and the state of the run names those that count. No file is changed:
a round writes new ones beside them, and those that they replace are removed once the state of the round is saved. A
process that is killed at any moment leaves the files of its latest state whole. What it wrote later no state names.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mindfl.algorithms.algorithm import Arrays
from mindfl.algorithms.client_algorithm import Keeper
from mindfl.errors import OptionError, StorageError
from mindfl.files import open_file, remove_file
from mindfl.sim.tensor_file import Head, map_tensors, read_head, write_tensors

#: the folder of the files in a work folder
FOLDER = "memory"
_FILE = re.compile(r"\.?client_\d+_iteration_\d+\.safetensors(\.tmp)?")
#: name of the list of files among the arrays of a state
_FILES = "files"
_KIND = "client memory 1"


class Memories:
    """What clients remember, by their numbers. ``values`` are those of upload modes, of the clients that have any.

    This class keeps the arrays in memory, as they travel to the nodes of a Ray cluster and back.
    """

    def __init__(self, values: Mapping[Any, Mapping[str, Any]] | None = None) -> None:
        self.values = {int(index): plain for index, plain in (values or {}).items()}
        self._arrays: dict[int, Arrays] = {}

    def note(self, index: int, values: Mapping[str, Any]) -> None:
        """Replace the values of a client."""
        self.values.pop(index, None)
        if values:
            self.values[index] = values

    def read(self, index: int) -> Arrays:
        """Return the arrays of a client, read-only; none at first."""
        return self._arrays.get(index, {})

    def write(self, index: int, iteration: int, arrays: Arrays) -> None:
        """Replace the arrays of a client by those that it remembers of ``iteration``."""
        self._arrays[index] = arrays

    def part(self, indices: Iterable[int]) -> Memories:
        """Return what these clients alone remember, to be sent elsewhere."""
        part = Memories()
        for index in indices:
            part.note(index, self.values.get(index, {}))
            part.write(index, 0, {name: array.copy() for name, array in self.read(index).items()})
        return part


@dataclass(frozen=True)
class ClientMemory(Keeper):
    """The arrays of client ``index`` among what ``memories()`` returns."""

    memories: Callable[[], Memories]
    index: int

    def read(self) -> Arrays:
        """Return them."""
        return self.memories().read(self.index)

    def write(self, iteration: int, arrays: Arrays) -> None:
        """Replace them."""
        self.memories().write(self.index, iteration, arrays)


class _Written(NamedTuple):
    iteration: int
    checksum: int


class StoredMemories(Memories):
    """What the clients of a run remember, the arrays in files, which are mapped when they are read.

    Any number of threads may read and write, each its own client's.

    Args:
        work_dir: the work folder.
        model: the weights that clients exchange, by name; only their names and sizes matter.
        values, arrays: what ``values`` and ``arrays`` were when the state was saved from which the run goes on. Files
            that it does not name are removed.

    Raises:
        OptionError: the state is one of a version of mindfl that kept the arrays in it.
        StorageError: a file is missing, or is not this run's.
    """

    def __init__(
        self,
        work_dir: Path,
        model: Arrays,
        values: Mapping[Any, Mapping[str, Any]] | None = None,
        arrays: Arrays | None = None,
    ) -> None:
        super().__init__(values)
        self._folder = work_dir / FOLDER
        sizes = sorted((name, int(np.size(weights))) for name, weights in model.items())
        self._network = hashlib.sha256(repr(sizes).encode(errors="surrogatepass")).hexdigest()[:16]
        self._written: dict[int, _Written] = {}
        self._replaced: list[Path] = []
        self._last_saved = 0
        if arrays:
            self._go_on(work_dir, arrays)
        _remove(self._folder, but={self._path(index, each.iteration).name for index, each in self._written.items()})

    @property
    def arrays(self) -> dict[str, NDArray[np.int64]]:
        """The list of the files that count, for the state: client, iteration and CRC-32 of each."""
        rows = [(index, *each) for index, each in sorted(self._written.items())]
        return {_FILES: np.array(rows, np.int64)} if rows else {}

    def saved(self, iteration: int) -> None:
        """Remove the files that only earlier states name: that of ``iteration`` has been saved."""
        self._last_saved = iteration
        replaced, self._replaced = self._replaced, []
        for path in replaced:
            remove_file(path)

    def read(self, index: int) -> Arrays:
        """Return the arrays of a client, mapped. Raises :class:`StorageError`."""
        written = self._written.get(index)
        if written is None:
            return {}
        with self._opened(index, written) as (file, head):
            arrays, checksum = map_tensors(file, head)
            if checksum != written.checksum:
                raise ValueError("it is damaged, or of another run")
        return arrays

    def write(self, index: int, iteration: int, arrays: Arrays) -> None:
        """Write the arrays of a client. Raises :class:`OptionError` for unusable ones, :class:`StorageError`."""
        before = self._written.get(index)
        if arrays:
            self._written[index] = _Written(iteration, self._write(index, iteration, arrays))
        elif before is not None:
            del self._written[index]
        if before is None or (arrays and before.iteration == iteration):
            return
        path = self._path(index, before.iteration)
        if before.iteration <= self._last_saved:  # named by the latest state, until the next one is saved
            self._replaced.append(path)
        else:
            remove_file(path)

    def _write(self, index: int, iteration: int, arrays: Arrays) -> int:
        path = self._path(index, iteration)
        temporary = path.with_name(f".{path.name}.tmp")
        notes = {"mindfl": _KIND, "client": str(index), "iteration": str(iteration), "network": self._network}
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                checksum = write_tensors(file, arrays, notes)
            temporary.replace(path)
        except OSError as error:
            raise StorageError.from_os_error(error, "write", path) from None
        finally:
            with suppress(OSError):  # where it took its place
                temporary.unlink()
        return checksum

    def _go_on(self, work_dir: Path, arrays: Arrays) -> None:
        """Take over the list of a state, and look at the head of each file."""
        if arrays.keys() != {_FILES}:
            raise OptionError(
                f"the state in {work_dir} keeps what clients remember in the form of an earlier mindfl",
                hint="go on with the mindfl that began it, or start again with --overwrite",
            )
        self._written = {int(index): _Written(int(when), int(crc)) for index, when, crc in arrays[_FILES]}
        self._last_saved = max(each.iteration for each in self._written.values())
        for index, written in self._written.items():
            with self._opened(index, written):
                pass

    def _path(self, index: int, iteration: int) -> Path:
        return self._folder / f"client_{index}_iteration_{iteration}.safetensors"

    @contextmanager
    def _opened(self, index: int, written: _Written) -> Iterator[tuple[BinaryIO, Head]]:
        """Open a file of this run; errors name it, ``ValueError`` in the block too."""
        path = self._path(index, written.iteration)
        try:
            with open_file(path) as file:
                head = read_head(file)
                if head.notes.get("mindfl") != _KIND:
                    raise ValueError("it is not a client's memory")
                if head.notes.get("network") != self._network:
                    raise ValueError("it is of another network")
                if (head.notes.get("client"), head.notes.get("iteration")) != (str(index), str(written.iteration)):
                    raise ValueError("it is of another client or iteration")
                yield file, head
        except OSError as error:
            raise _unusable(path, error.strerror or str(error)) from None
        except ValueError as error:
            raise _unusable(path, str(error)) from None


def remove_memories(work_dir: Path) -> None:
    """Remove what clients of an earlier run in ``work_dir`` remember. Raises :class:`StorageError`."""
    _remove(work_dir / FOLDER)


def _remove(folder: Path, but: Set[str] = frozenset()) -> None:
    """Remove the files of clients in ``folder``, and the folder if nothing else is in it."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if _FILE.fullmatch(path.name) and path.name not in but:
            remove_file(path)
    with suppress(OSError):  # not empty
        folder.rmdir()


def _unusable(path: Path, cause: str) -> StorageError:
    return StorageError(
        f"cannot read {path}, which a client remembers: {cause}",
        hint="restore the file from a copy of this run's work folder, or start again with --overwrite",
    )
