"""Executing a ``.ms`` file: training steps, prediction, weights in and out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mindfl.errors import DataError, ModelFormatError
from mindfl.files import PathLike
from mindfl.lite.correction import checked
from mindfl.lite.executable import Executable, Programs
from mindfl.lite.kernels import load_machine
from mindfl.lite.model import LiteModel
from mindfl.lite.own import execute
from mindfl.lite.program import ALIGNMENT, Program, alike

if TYPE_CHECKING:
    from mindfl.algorithms.algorithm import Correction

Floats = NDArray[np.float32]
Labels = NDArray[np.int32]
Code = NDArray[np.int64]
_NOT_TRAINING = "this is not a training model: it has no loss or no optimizer node"


@dataclass(frozen=True)
class Batches:
    """Samples as the kernels read them: float32 (batches, features, lanes), samples last and padded with zeros.

    ``numbers`` are the inputs of whole numbers, int32 (samples, numbers of each), of one row at least. ``count`` is the
    number of true samples. Made by :meth:`Session.batches`, for sessions of the same model.
    """

    packed: Floats
    numbers: NDArray[np.int32]
    count: int
    folded: bool


class Session:
    """A running model: weights, optimizer state and buffers in one block of memory. One thread may use it at a time.

    Images are float32 ``(count, height, width, channels)``, or ``(count, height, width)`` where all channels are equal.
    Labels are int32 ``(count,)`` or one-hot ``(count, classes)``, for any form of labels in the model. Equal channels
    are computed once, which is exact: equal inputs have equal gradients.

    Args:
        model: a :class:`LiteModel`, or an :class:`Executable` that several sessions share.

    Raises:
        ModelFormatError: the runtime cannot execute the model.

    Example:
        >>> session = Session(LiteModel.load("lenet_train.ms"))
        >>> images, labels = np.ones((64, 32, 32, 3), np.float32), np.zeros(64, np.int32)
        >>> losses = session.train(session.batches(images), labels)
        >>> losses.shape  # one loss for each batch of 32
        (2,)
    """

    def __init__(self, model: LiteModel | Executable) -> None:
        self.executable = model if isinstance(model, Executable) else Executable(model)
        self.model = self.executable.model
        self._machine = load_machine()
        self._constants = self.executable.graph.constants
        self._head = self.executable.graph.constants_size
        self._arenas: dict[bool, Floats] = {}
        self._tables: dict[int, NDArray[np.int32]] = {}
        self._correction: Correction | None = None
        self._corrected: Code | None = None
        self._folded = self.executable.graph.equal_channels
        self._arena = self._arena_for(self._folded)
        self.reset()

    @property
    def batch_size(self) -> int:
        """Samples per step, fixed in the file."""
        return self.executable.graph.batch

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one sample, such as (32, 32, 3)."""
        return self.executable.graph.samples[0].dims[1:]

    @property
    def classes(self) -> int:
        """Number of class scores."""
        return self.executable.graph.classes

    def reset(self) -> None:
        """Reset weights and optimizer state to the values in the file."""
        self._arena[: self._head] = self.executable.constants

    def reset_optimizer(self) -> None:
        """Reset optimizer state and learning rate, but not the weights, to the values in the file."""
        for part in self.executable.state:
            self._arena[part] = self.executable.constants[part]

    def get_weights(self) -> dict[str, Floats]:
        """Return copies of the trainable parameters by name, in ascending order, shaped as in the file (KHWC)."""
        return {name: self._view(tensor.index).copy() for name, tensor in self.model.parameters.items()}

    def weight_views(self) -> dict[str, Floats]:
        """Return flat read-only views of the parameters: valid until the next call that changes them."""
        views = {}
        for name, tensor in self.model.parameters.items():
            view = self._view(tensor.index).reshape(-1)
            view.flags.writeable = False
            views[name] = view
        return views

    def set_weights(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        """Set parameters by name; arrays of any shape with the right number of elements.

        Raises :class:`ModelFormatError` for an unknown name or a wrong size; nothing is changed then.
        """
        for name, value in weights.items():
            tensor = self.model.parameters.get(name)
            if tensor is None or tensor.size != value.size:
                raise ModelFormatError(f"the model has no parameter {name} of {value.size} elements")
        for name, value in weights.items():
            place = self._constants[self.model.parameters[name].index]
            self._arena[place.offset : place.offset + place.size] = value.reshape(-1)

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate until the next reset. Raises :class:`ModelFormatError` if the model has none."""
        if not self.executable.learning_rates:
            raise ModelFormatError("the model has no learning rate constant")
        for offset in self.executable.learning_rates:
            self._arena[offset] = rate

    def set_correction(self, correction: Correction | None) -> None:
        """Replace the gradient g by ``scale * g + shift + pull * (w - towards)`` in every step; None ends that.

        After each step of the optimizer, ``after`` is added to the weights.

        The correction holds until the next call, through every reset; it is computed in float32 in this order. g is the
        gradient that the optimizer reads: with Momentum and Adam it includes a weight decay, so ``scale`` acts on that
        too; SGD adds its own decay to the corrected gradient. A correction that changes nothing gives the same bits as
        None.

        Args:
            correction: its arrays are copied; flat or shaped as in the file, by names of the model's parameters.
                Weights that are missing in ``shift`` are not shifted, those missing in ``towards`` not pulled, those
                missing in ``after`` not moved.

        Raises:
            OptionError: a name that is no parameter, a wrong size, a scale that is not finite, a pull that is not
                finite or negative, or a pull with nothing in ``towards``.
            ModelFormatError: the model does not train.

        Example:
            >>> from mindfl.algorithms import Correction
            >>> fedprox = Correction(pull=0.1, towards=session.get_weights())
            >>> session.set_correction(fedprox)
        """
        parameters = self.model.parameters
        self._correction = checked(correction, {name: tensor.size for name, tensor in parameters.items()})
        self._load_correction()

    def _load_correction(self) -> None:
        self._corrected = None
        if self._correction is not None:
            if self._programs.correction is None:
                raise ModelFormatError(_NOT_TRAINING)
            self._corrected = self._programs.correction.load(self._arena, self._correction)

    def batches(self, images: ArrayLike, *, steps: int | None = None) -> Batches:
        """Return samples as this model's batches, to be used several times: for ``steps`` steps, or for one pass.

        The last batch of a pass is filled with samples from the first on; further steps continue from there. Raises
        :class:`DataError` for a wrong shape.
        """
        samples, folded = self._samples(images)
        count, batch = len(samples), self.batch_size
        passes = -(-count // batch) if steps is None else min(steps, count // math.gcd(count, batch))
        lanes = self.executable.programs(folded=folded).predict.place.lanes
        packed = np.zeros((passes, samples.shape[1], lanes), np.float32)
        self._machine.pack(samples, packed, batch)
        return Batches(packed, np.zeros((1, 0), np.int32), count, folded)

    def train_step(self, images: ArrayLike, labels: ArrayLike) -> float:
        """Run one step on one batch (fewer samples are repeated cyclically) and return its mean loss."""
        return float(self.train(images, labels, steps=1)[0])

    def train(self, images: ArrayLike | Batches, labels: ArrayLike, *, steps: int | None = None) -> Floats:
        """Run one pass over the samples in order, or ``steps`` steps, and return the mean loss of each step.

        The last batch is filled by repeating samples from the first on. Raises :class:`DataError` for a wrong shape or
        a label out of range, :class:`ModelFormatError` for a model without training part.
        """
        batches = images if isinstance(images, Batches) else self.batches(images, steps=steps)
        classes = self._checked_labels(labels, batches.count)
        self._use(batches.folded)
        program = self._programs.train
        if program is None:
            raise ModelFormatError(_NOT_TRAINING)
        count = -(-batches.count // self.batch_size) if steps is None else steps
        losses = np.empty((count, 1), np.float32)
        code = program.code if self._corrected is None else self._corrected
        self._execute(program, code, batches, classes, count, losses)
        return losses[:, 0]

    def predict(self, images: ArrayLike | Batches) -> Floats:
        """Return the class scores (logits) of all images: float32 (count, classes)."""
        batches = images if isinstance(images, Batches) else self.batches(images)
        self._use(batches.folded)
        logits = np.empty((batches.count, self.classes), np.float32)
        steps = -(-batches.count // self.batch_size)
        program = self._programs.predict
        self._execute(program, program.code, batches, np.zeros(1, np.int32), steps, logits)
        return logits

    def save(self, path: PathLike) -> None:
        """Write the ``.ms`` file with the current weights. Optimizer state and all else stay as in the file read."""
        self.model.save(path, self.get_weights())

    def _execute(
        self, program: Program, code: Code, batches: Batches, labels: Labels, steps: int, results: Floats
    ) -> None:
        table, place, machine = self._table(program), program.place.row(), self._machine
        packed, numbers = batches.packed, batches.numbers
        if program.calls:
            execute(machine, self._arena, table, program, code, packed, numbers, labels, steps, results)
        else:
            machine.execute(self._arena, table, code, machine.addresses, packed, numbers, labels, place, steps, results)

    @property
    def _programs(self) -> Programs:
        return self.executable.programs(folded=self._folded)

    def _arena_for(self, folded: bool) -> Floats:
        if folded not in self._arenas:
            programs = self.executable.programs(folded=folded)
            arena = _aligned_zeros(programs.arena_size)
            for program in filter(None, (programs.train, programs.predict)):
                self._machine.prepare(program.code)
                for offset, numbers in program.literals.items():
                    arena[offset : offset + numbers.size] = numbers
            self._arenas[folded] = arena
        return self._arenas[folded]

    def _table(self, program: Program) -> NDArray[np.int32]:
        """Return this session's copy of a program's table, whose head holds the labels of the current batch."""
        if id(program) not in self._tables:
            self._tables[id(program)] = program.table.copy()
        return self._tables[id(program)]

    def _view(self, index: int) -> Floats:
        place = self._constants[index]
        return self._arena[place.offset : place.offset + place.size].reshape(place.dims)

    def _use(self, folded: bool) -> None:
        """Switch between programs, keeping weights and state."""
        if folded != self._folded:
            arena = self._arena_for(folded)
            arena[: self._head] = self._arena[: self._head]
            self._arena, self._folded = arena, folded
            self._load_correction()

    def _samples(self, images: ArrayLike) -> tuple[Floats, bool]:
        """Return samples as float32 (count, features), and whether one channel represents all equal ones."""
        try:
            array = _own(images, np.float32)
        except (TypeError, ValueError):
            raise DataError("the images are not an array of numbers") from None
        shape = self.image_shape
        if array.size == 0:
            raise DataError("there are no images")
        if array.shape[1:] == shape:
            folded = self.executable.graph.equal_channels and bool((array[..., :1] == array).all())
            array = np.ascontiguousarray(array[..., 0]) if folded else array
        elif array.shape[1:] == shape[:-1] and len(shape) == 3:
            folded = self.executable.graph.equal_channels
            array = array if folded else np.repeat(array[..., None], shape[-1], axis=-1)
        elif array.ndim and alike(array.shape[1:], shape):
            folded = False
        else:
            raise DataError(f"images have shape {array.shape[1:]}, the model takes {shape}")
        return array.reshape(len(array), -1), folded

    def _checked_labels(self, labels: ArrayLike, count: int) -> Labels:
        array = np.asarray(labels)
        if array.shape == (count, self.classes) and array.ndim == 2:
            array = _class_numbers(array)
        if array.shape != (count,) or array.dtype.kind not in "iu":
            raise DataError(f"there are {count} images, and labels of shape {array.shape} and type {array.dtype}")
        wrong = array[(array < 0) | (array >= self.classes)]
        if wrong.size:
            raise DataError(f"label {wrong[0]} is out of range: the model has classes 0 to {self.classes - 1}")
        return _own(array, np.int32)


def _class_numbers(one_hot: NDArray[Any]) -> NDArray[Any]:
    """Return one-hot labels as class numbers. Raises :class:`DataError` for a row without exactly one 1."""
    if not ((one_hot == 0) | (one_hot == 1)).all() or not (one_hot.sum(axis=1) == 1).all():
        raise DataError("labels of shape (count, classes) must be one-hot: one 1 in each row, else 0")
    classes: NDArray[Any] = one_hot.argmax(axis=1)
    return classes


def _own(values: ArrayLike, dtype: type[Any]) -> NDArray[Any]:
    """Return a contiguous, aligned, writable array: for any other numba would compile the machine again."""
    return np.require(values, dtype, ["C", "A", "W"])


def _aligned_zeros(count: int) -> Floats:
    """Return zeroed float32 memory that begins on a cache line."""
    raw = np.zeros(count + ALIGNMENT, np.float32)
    start = -(raw.ctypes.data // raw.itemsize) % ALIGNMENT
    return raw[start : start + count]
