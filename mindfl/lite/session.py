"""Executing a ``.ms`` file: training steps, prediction, weights in and out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mindfl.errors import ModelFormatError, OptionError
from mindfl.files import PathLike
from mindfl.float_environment import default_float_environment
from mindfl.lite.correction import checked, without
from mindfl.lite.executable import Executable, Programs
from mindfl.lite.kernels import load_machine
from mindfl.lite.model import LiteModel
from mindfl.lite.own import execute
from mindfl.lite.program import ALIGNMENT, Program
from mindfl.lite.sample_values import SamplesLike, packable, packed_labels
from mindfl.lite.step_shares import PANEL_SIZE, Team

if TYPE_CHECKING:
    from mindfl.algorithms.algorithm import Correction

Floats = NDArray[np.float32]
Labels = NDArray[np.int32]
Code = NDArray[np.int64]
#: how far the mean of samples' losses may be from their batch's, as a share, for the loss to be their mean
_ROUNDING = 1e-4
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

    Samples are one array (count, ...) of the shape of the model's input: float32, or int32 for token ids. Images are
    ``(count, height, width, channels)``, or ``(count, height, width)`` where all channels are equal. Equal channels
    are computed once, which is exact: equal inputs have equal gradients. For several inputs it is a tuple of arrays in
    the order of the model's inputs, or one array that holds them one after the other, such as (count, 3, length).

    Labels are class numbers, int32 ``(count,)``, or one-hot ``(count, classes)``, for any form of labels in the model;
    class numbers of each token, int32 ``(count, tokens)``; or the numbers of a regression, float32 ``(count, k)``.

    Args:
        model: a :class:`LiteModel`, or an :class:`Executable` that several sessions share.
        threads: threads that train one step together, at least 1; the results are bitwise the same for any number.

    Raises:
        ModelFormatError: the runtime cannot execute the model.

    Example:
        >>> session = Session(LiteModel.load("lenet_train.ms"))
        >>> images, labels = np.ones((64, 32, 32, 3), np.float32), np.zeros(64, np.int32)
        >>> losses = session.train(session.batches(images), labels)
        >>> losses.shape  # one loss for each batch of 32
        (2,)
    """

    def __init__(self, model: LiteModel | Executable, *, threads: int = 1) -> None:
        if threads < 1:
            raise OptionError(f"threads must be at least 1, got {threads}")
        self._threads = threads
        self._teams: dict[bool, Team] = {}
        self.executable = model if isinstance(model, Executable) else Executable(model)
        self.model = self.executable.model
        self._machine = load_machine()
        self._constants = self.executable.graph.constants
        self._head = self.executable.graph.constants_size
        self._arenas: dict[bool, Floats] = {}
        self._tables: dict[int, NDArray[np.int32]] = {}
        self._correction: Correction | None = None
        self._corrected: Code | None = None
        self._seed = 0
        self._steps = 0
        self._folded = self.executable.graph.equal_channels
        self._arena = self._arena_for(self._folded)
        self.reset()

    @property
    def batch_size(self) -> int:
        """Samples per step, fixed in the file."""
        return self.executable.graph.batch

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one sample in the first input, such as (32, 32, 3)."""
        return self.executable.graph.samples[0].dims[1:]

    @property
    def classes(self) -> int:
        """Number of class scores for a label; of a regression the number of predicted values."""
        return self.executable.graph.classes

    def reset(self) -> None:
        """Reset weights and optimizer state to the values in the file."""
        self._arena[: self._head] = self.executable.constants
        self._steps = 0

    def reset_optimizer(self) -> None:
        """Reset optimizer state and learning rate, but no weights and running statistics, to the file's values."""
        for part in self.executable.state:
            self._arena[part] = self.executable.constants[part]

    def get_weights(self) -> dict[str, Floats]:
        """Return copies of trained parameters and running statistics by name, in ascending order.

        They are shaped as in the file (KHWC); their names are those of :attr:`LiteModel.weights`.
        """
        return {name: self._view(index).copy() for name, index in self.executable.weights.items()}

    def weight_views(self) -> dict[str, Floats]:
        """Return flat read-only views of the weights: valid until the next call that changes them."""
        views = {}
        for name, index in self.executable.weights.items():
            view = self._view(index).reshape(-1)
            view.flags.writeable = False
            views[name] = view
        return views

    def set_weights(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        """Set parameters and running statistics by name; arrays of any shape with the right number of elements.

        Raises :class:`ModelFormatError` for an unknown name or a wrong size; nothing is changed then.
        """
        for name, value in weights.items():
            index = self.executable.weights.get(name)
            if index is None or self._constants[index].size != value.size:
                raise ModelFormatError(f"the model has no parameter {name} of {value.size} elements")
        for name, value in weights.items():
            place = self._constants[self.executable.weights[name]]
            self._arena[place.offset : place.offset + place.size] = value.reshape(-1)

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate until the next reset. Raises :class:`ModelFormatError` if the model has none."""
        if not self.executable.learning_rates:
            raise ModelFormatError("the model has no learning rate constant")
        for offset in self.executable.learning_rates:
            self._arena[offset] = rate

    def set_seed(self, seed: int) -> None:
        """Draw the masks of dropout from ``seed`` (its lowest 64 bits), beginning anew; it is 0 at first.

        The mask of a step follows from the seed, the number of steps since, and the node of the file: in every session
        and thread the same.
        """
        self._seed, self._steps = seed & (2**64 - 1), 0

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
                missing in ``after`` not moved. Arrays of running statistics, which have no gradient, are ignored.

        Raises:
            OptionError: a name that is no parameter, a wrong size, a scale that is not finite, a pull that is not
                finite or negative, or a pull with nothing in ``towards``.
            ModelFormatError: the model does not train.

        Example:
            >>> from mindfl.algorithms import Correction
            >>> fedprox = Correction(pull=0.1, towards=session.get_weights())
            >>> session.set_correction(fedprox)
        """
        parameters, statistics = self.model.parameters, self.model.statistics
        sizes = {name: tensor.size for name, tensor in parameters.items()}
        self._correction = checked(without(statistics, correction), sizes)
        self._load_correction()

    def _load_correction(self) -> None:
        self._corrected = None
        if self._correction is not None:
            if self._programs.correction is None:
                raise ModelFormatError(_NOT_TRAINING)
            self._corrected = self._programs.correction.load(self._arena, self._correction)

    @default_float_environment()
    def batches(self, samples: SamplesLike, *, steps: int | None = None) -> Batches:
        """Return samples as this model's batches, to be used several times: for ``steps`` steps, or for one pass.

        The last batch of a pass is filled with samples from the first on; further steps continue from there. Raises
        :class:`DataError` for a wrong shape or type, and for a token that the model's table does not have.
        """
        found = packable(samples, self.executable.graph)
        count, batch = found.count, self.batch_size
        passes = -(-count // batch) if steps is None else min(steps, count // math.gcd(count, batch))
        lanes = self.executable.programs(folded=found.folded).predict.place.lanes
        packed = np.zeros((passes, found.floats.shape[1], lanes), np.float32)
        if found.floats.size:
            self._machine.pack(found.floats, packed, batch)
        return Batches(packed, found.numbers, count, found.folded)

    def train_step(self, samples: SamplesLike, labels: ArrayLike) -> float:
        """Run one step on one batch (fewer samples are repeated cyclically) and return its mean loss."""
        return float(self.train(samples, labels, steps=1)[0])

    def train(self, samples: SamplesLike | Batches, labels: ArrayLike, *, steps: int | None = None) -> Floats:
        """Run one pass over the samples in order, or ``steps`` steps, and return the mean loss of each step.

        The last batch is filled by repeating samples from the first on. Raises :class:`DataError` for a wrong shape or
        a label out of range, :class:`ModelFormatError` for a model without training part.
        """
        batches = samples if isinstance(samples, Batches) else self.batches(samples, steps=steps)
        wanted = packed_labels(labels, batches.count, self.executable.graph)
        self._use(batches.folded)
        program = self._programs.train
        if program is None:
            raise ModelFormatError(_NOT_TRAINING)
        count = -(-batches.count // self.batch_size) if steps is None else steps
        losses = np.empty((count, 1), np.float32)
        code = program.code if self._corrected is None else self._corrected
        if program.draws is not None:
            draws = np.array([self._seed & 0xFFFFFFFF, self._seed >> 32, self._steps & 0xFFFFFFFF], np.uint32)
            self._table(program)[program.draws : program.draws + draws.size] = draws.view(np.int32)
        self._steps += count
        self._execute(program, code, batches, wanted, count, losses)
        return losses[:, 0]

    def predict(self, samples: SamplesLike | Batches) -> Floats:
        """Return the predictions for all samples, float32: class scores (count, classes), or of each token (count,
        tokens, classes); of a regression its numbers (count, numbers)."""
        batches = samples if isinstance(samples, Batches) else self.batches(samples)
        self._use(batches.folded)
        graph, program = self.executable.graph, self._programs.predict
        predictions = np.empty((batches.count, graph.outputs), np.float32)
        steps = -(-batches.count // self.batch_size)
        self._execute(program, program.code, batches, np.zeros(1, np.int32), steps, predictions)
        tokens = graph.labels_of_sample
        return predictions if graph.label_kind != "tokens" else predictions.reshape(batches.count, tokens, -1)

    def loss(self, samples: SamplesLike | Batches, labels: ArrayLike) -> float:
        """Return the mean loss of the samples with the present weights, for a regression; nothing is trained.

        It is that of a batch, as :meth:`train` returns it: of a model that sums over the samples of a batch, the mean
        of such sums.

        Raises :class:`DataError` as :meth:`train` does, :class:`ModelFormatError` for a model that is no regression:
        the loss of a classifier follows from its scores.
        """
        batches = samples if isinstance(samples, Batches) else self.batches(samples)
        wanted = packed_labels(labels, batches.count, self.executable.graph)
        self._use(batches.folded)
        program = self._programs.loss
        if program is None:
            raise ModelFormatError("the model is no regression that trains: its loss is not calculated on its own")
        count, batch = batches.count, self.batch_size
        whole, rest = divmod(count, batch)
        losses = np.empty((whole + bool(rest), 1), np.float32)
        self._execute(program, program.code, batches, wanted, len(losses), losses)
        total = float(losses[:whole].sum(dtype=np.float64))
        if rest:
            total += self._loss_of_rest(program, batches, wanted, float(losses[whole, 0]))
        return total * batch / count

    def _loss_of_rest(self, program: Program, batches: Batches, labels: Labels, filled: float) -> float:
        """Return the share of the true samples in ``filled``, the loss of the last batch, which others fill.

        Where a loss is the mean of its samples' losses, or their sum, what the others add is known from a batch of each
        sample alone. Another loss, such as the root of a mean, is that of a batch of the true samples, repeated.
        """
        count, batch = batches.count, self.batch_size
        rest = count % batch
        places = range(count - rest, count - rest + batch)
        alone = [self._loss_of(program, batches, labels, [place % count]) for place in places]
        if abs(math.fsum(alone) - filled * batch) <= _ROUNDING * math.fsum(map(abs, alone)):
            return math.fsum(alone[:rest]) / batch
        return self._loss_of(program, batches, labels, places[:rest]) * rest / batch

    def _loss_of(self, program: Program, batches: Batches, labels: Labels, samples: Sequence[int]) -> float:
        """Return the loss of a batch that holds these samples, one after the other and over again."""
        chosen = np.resize(np.array(samples), self.batch_size)
        packed = np.zeros((1, *batches.packed.shape[1:]), np.float32)
        rows = chosen // self.batch_size % len(batches.packed)
        packed[0, :, : self.batch_size] = batches.packed[rows, :, chosen % self.batch_size].T
        numbers = np.ascontiguousarray(batches.numbers[chosen % len(batches.numbers)])
        wanted = np.ascontiguousarray(labels.reshape(batches.count, -1)[chosen].reshape(-1))
        alone, losses = Batches(packed, numbers, self.batch_size, batches.folded), np.empty((1, 1), np.float32)
        self._execute(program, program.code, alone, wanted, 1, losses)
        return float(losses[0, 0])

    def save(self, path: PathLike) -> None:
        """Write the ``.ms`` file with the current weights. Optimizer state and all else stay as in the file read."""
        self.model.save(path, self.get_weights())

    @default_float_environment()
    def _execute(
        self, program: Program, code: Code, batches: Batches, labels: Labels, steps: int, results: Floats
    ) -> None:
        table, place, machine = self._table(program), program.place.row(), self._machine
        packed, numbers = batches.packed, batches.numbers
        if program.calls:
            execute(machine, self._arena, table, program, code, packed, numbers, labels, steps, results)
        elif self._threads > 1 and program is self._programs.train:
            team = self._teams[self._folded]
            team.execute(machine, self._arena, table, program, code, packed, numbers, labels, steps, results)
        else:
            machine.execute(self._arena, table, code, machine.addresses, packed, numbers, labels, place, steps, results)

    @property
    def _programs(self) -> Programs:
        return self.executable.programs(folded=self._folded)

    def _arena_for(self, folded: bool) -> Floats:
        if folded not in self._arenas:
            programs = self.executable.programs(folded=folded)
            arena = _aligned_zeros(programs.arena_size + (self._threads - 1) * PANEL_SIZE)
            if self._threads > 1:
                self._teams[folded] = Team(self._threads, programs.arena_size)
            for program in programs.all:
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


def _aligned_zeros(count: int) -> Floats:
    """Return zeroed float32 memory that begins on a cache line."""
    raw = np.zeros(count + ALIGNMENT, np.float32)
    start = -(raw.ctypes.data // raw.itemsize) % ALIGNMENT
    return raw[start : start + count]
