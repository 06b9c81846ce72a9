"""The networks that a job can train: mindfl's own by name, a user's by file, module, entry point or as an object."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from mindfl.errors import OptionError
from mindfl.extensions import absolute, installed, is_reference, load_object, reference_settings
from mindfl.spelling import did_you_mean

#: initial weights of registered networks
DEFAULT_INIT = "lecun"
#: entry points of installed packages that hold networks
GROUP = "mindfl.models"
Model: TypeAlias = Any
"""A network as users name it: see :func:`model_spec`."""


@dataclass(frozen=True, kw_only=True)
class NetworkSizes:
    """Sizes of a network; None: not given.

    Args:
        num_class: outputs, at least 1.
        num_channel: channels of an image, at least 1.
        image_size: height and width of an image, at least 1.
    """

    num_class: int | None = None
    num_channel: int | None = None
    image_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name in ("num_class", "num_channel", "image_size"):
            value = getattr(self, name)
            if value is not None and (min(value) if isinstance(value, tuple) else value) < 1:
                raise OptionError(f"{name} must be at least 1, got {value}")

    def input_shape(self, batch_size: int) -> tuple[int, ...]:
        """Return the shape [N, C, H, W] of a batch of images."""
        assert self.num_channel is not None and self.image_size is not None
        return (batch_size, self.num_channel, *self.image_size)

    def words(self) -> str:
        """Return the sizes in words, for messages."""
        height, width = self.image_size or ("?", "?")
        return f"{self.num_class} classes and {height}x{width} images with {self.num_channel} channels"


@dataclass(frozen=True)
class ModelSpec:
    """A network by name: how it is built, and its sizes.

    Args:
        name: name in messages and titles.
        build: ``build(num_class, num_channel, init=..., seed=...)`` returns the MindSpore cell (and imports MindSpore).
            It is given ``image_size`` too if it has an argument of that name.
        image_size: height and width of its images; None: those of the data.
        num_class: default number of outputs.
        num_channel: default number of image channels.
        parameters: names of its trainable parameters, which are compared with those of a model file; empty: no check.
    """

    name: str
    build: Callable[..., Any]
    image_size: tuple[int, int] | None = None
    num_class: int | None = None
    num_channel: int | None = None
    parameters: frozenset[str] = frozenset()

    def sizes(self, given: NetworkSizes) -> NetworkSizes:
        """Return ``given``, completed by the network's own sizes.

        Raises :class:`OptionError` if a size is in neither, or the network does not take the given image size.
        """
        values: dict[str, Any] = {}
        for name in ("num_class", "num_channel", "image_size"):
            own, wanted = getattr(self, name), getattr(given, name)
            values[name] = own if wanted is None else wanted
            if values[name] is None:
                raise OptionError(f"{self.name} has no {name} of its own", hint=f"give --{name}")
        if not self._takes("image_size") and self.image_size not in (None, values["image_size"]):
            height, width = self.image_size or (0, 0)
            raise OptionError(
                f"{self.name} takes images of {height}x{width}, not {'x'.join(map(str, values['image_size']))}",
                hint="a network of your own: --model FILE.py:CLASS",
            )
        return NetworkSizes(**values)

    def make(self, sizes: NetworkSizes, *, init: str | None, seed: int) -> Any:
        """Return the MindSpore cell for ``sizes``, none of which is None.

        ``init`` None: what a user's network sets itself; for a registered one :data:`DEFAULT_INIT`.
        """
        more = {"image_size": sizes.image_size} if self._takes("image_size") else {}
        init = init or self.default_init
        return self.build(sizes.num_class, sizes.num_channel, init=init, seed=seed, **more)

    @property
    def own(self) -> OwnNetwork | None:
        """The user's class or function; None for a registered network."""
        return self.build if isinstance(self.build, OwnNetwork) else None

    @property
    def default_init(self) -> str | None:
        """The default initial weights; None: those that a user's network sets itself."""
        return DEFAULT_INIT if self.own is None else None

    @property
    def by_name(self) -> bool:
        """Whether it is a user's network that other processes can load."""
        return self.own is not None and isinstance(self.own.target, str)

    def _takes(self, name: str) -> bool:
        return name in inspect.signature(self.build).parameters


@dataclass(frozen=True)
class OwnNetwork:
    """A user's class, or a function, that makes a MindSpore cell.

    It is called with ``settings`` and with those of ``num_class``, ``num_channel``, ``image_size`` (height, width),
    ``init`` and ``seed`` that it has parameters for. MindSpore's generators are seeded before.

    Args:
        name: name in messages.
        target: the class or function; or its reference as text, which the process that makes the network loads.
        settings: further keyword arguments.
    """

    name: str
    target: Any
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __call__(
        self, num_class: int, num_channel: int, *, image_size: tuple[int, int], init: str | None = None, seed: int = 0
    ) -> Any:
        """Return the cell. Raises :class:`OptionError` if it cannot be made or is not a MindSpore cell."""
        from mindfl.models._mindspore import import_mindspore

        mindspore = import_mindspore()
        make = load_object(self.target, "model") if isinstance(self.target, str) else self.target
        offered = {"num_class": num_class, "num_channel": num_channel, "image_size": image_size, "seed": seed}
        state = np.random.get_state()  # which MindSpore's set_seed replaces, also for the rest of the user's program
        try:
            mindspore.set_seed(seed)
            cell = make(**self._taken(make, offered, init), **self.settings)
        except OptionError:
            raise
        except Exception as error:
            sizes = NetworkSizes(num_class=num_class, num_channel=num_channel, image_size=image_size)
            raise OptionError(
                f"model {self.name} cannot be made for {sizes.words()}: {type(error).__name__}: {error}"
            ) from error
        finally:
            np.random.set_state(state)
        if not isinstance(cell, mindspore.nn.Cell):
            raise OptionError(f"model {self.name} returns {type(cell).__name__}, not a mindspore.nn.Cell")
        return cell

    def _taken(self, make: Any, offered: dict[str, Any], init: str | None) -> dict[str, Any]:
        if not callable(make):
            raise OptionError(f"model {self.name} is {type(make).__name__}, no class and no function")
        arguments = inspect.signature(make).parameters
        takes_all = any(each.kind is each.VAR_KEYWORD for each in arguments.values())
        if init is not None:
            if not takes_all and "init" not in arguments:
                raise OptionError(
                    f"model {self.name} takes no init: its class sets its own initial weights",
                    hint="leave --init out, or give --init_from FILE",
                )
            offered = {**offered, "init": init}
        return {name: value for name, value in offered.items() if takes_all or name in arguments}


def _lenet(num_class: int, num_channel: int, *, image_size: tuple[int, int] = (32, 32), **options: Any) -> Any:
    from mindfl.models.lenet import LeNet5

    return LeNet5(num_class, num_channel, image_size=image_size, **options)


_LENET_PARAMETERS = frozenset(
    {"conv1.weight", "conv2.weight", *(f"fc{layer}.{kind}" for layer in (1, 2, 3) for kind in ("weight", "bias"))}
)
MODELS = {
    "lenet": ModelSpec("lenet", _lenet, image_size=(32, 32), num_class=62, num_channel=3, parameters=_LENET_PARAMETERS)
}


def model_spec(model: Model) -> ModelSpec:
    """Return how the network ``model`` is made.

    Args:
        model: a name in :data:`MODELS`; ``file.py:Class`` or ``module:Class``, perhaps with settings, as in
            ``nets.py:TinyNet:width=8``; the name of an entry point ``mindfl.models``; a class or function that makes a
            MindSpore cell (:class:`OwnNetwork`); or a :class:`ModelSpec`.

    Raises:
        OptionError: there is no such network. A file or module is loaded later, when the network is made.

    Example:
        >>> model_spec("lenet").image_size, model_spec("nets.py:TinyNet").name
        ((32, 32), 'TinyNet')
    """
    if isinstance(model, ModelSpec):
        return model
    if not isinstance(model, str):
        if not callable(model):
            raise OptionError(f"model is {type(model).__name__}, not a name, a class or a function")
        name = getattr(model, "__name__", type(model).__name__)
        return ModelSpec(name, OwnNetwork(name, model))
    if model in MODELS:
        return MODELS[model]
    found, settings = reference_settings(model, "model")
    if not is_reference(found):
        packaged = installed(GROUP)
        if found not in packaged:
            raise OptionError(f"unknown model {found!r}", hint=_hint(found, [*MODELS, *packaged]))
        return ModelSpec(found, OwnNetwork(found, packaged[found].value, settings))
    name = found.rpartition(":")[2]
    return ModelSpec(name, OwnNetwork(name, absolute(found), settings))


def _hint(model: str, known: list[str]) -> str:
    return f"{did_you_mean(model, known)}; a network of your own is FILE.py:CLASS"
