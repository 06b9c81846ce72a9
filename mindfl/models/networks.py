"""The networks that a job can train: mindfl's own by name, a user's by file, module, entry point or as an object."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from importlib import import_module
from typing import Any, TypeAlias

import numpy as np

from mindfl.errors import OptionError
from mindfl.extensions import absolute, installed, is_reference, load_object, reference_settings
from mindfl.spelling import did_you_mean
from mindfl.user_code import raised

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
        length: tokens of a text, at least 1.
        vocabulary: number of different tokens, at least 1.
    """

    num_class: int | None = None
    num_channel: int | None = None
    image_size: tuple[int, int] | None = None
    length: int | None = None
    vocabulary: int | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and (min(value) if isinstance(value, tuple) else value) < 1:
                raise OptionError(f"{name} must be at least 1, got {value}")

    def input_shape(self, batch_size: int) -> tuple[int, ...]:
        """Return the shape [N, C, H, W] of a batch of images."""
        assert self.num_channel is not None and self.image_size is not None
        return (batch_size, self.num_channel, *self.image_size)

    def words(self) -> str:
        """Return the sizes in words, for messages; those that are not given are left out.

        Example:
            >>> NetworkSizes(num_class=10, image_size=(28, 28)).words()
            '10 classes and 28x28 images'
            >>> NetworkSizes(vocabulary=90).words()
            'texts of 90 different tokens'
        """
        height, width = self.image_size or (0, 0)
        size = f"{height}x{width} " if self.image_size else ""
        channels = f" with {self.num_channel} channels" if self.num_channel else ""
        different = "" if self.length else "different "
        tokens = f" of {self.vocabulary} {different}tokens" if self.vocabulary else " tokens"
        length = f" of {self.length}" if self.length else ""
        known = {
            f"{self.num_class} classes": self.num_class,
            f"texts{length}{tokens}": self.length or self.vocabulary,
            f"{size}images{channels}": size or channels,
        }
        return " and ".join(words for words, given in known.items() if given) or "no sizes"


#: the sizes that a network for images, or for texts, is made for
_IMAGE_SIZES = ("num_class", "num_channel", "image_size")
_TEXT_SIZES = ("num_class", "length", "vocabulary")
_SIZES = tuple(each.name for each in fields(NetworkSizes))


@dataclass(frozen=True)
class ModelSpec:
    """A network by name: how it is built, and its sizes.

    Args:
        name: name in messages and titles.
        build: returns the MindSpore cell (and imports MindSpore). For images ``build(num_class, num_channel, init=...,
            seed=...)``; it is given ``image_size`` too if it has an argument of that name. For texts, where
            ``vocabulary`` is given here, ``build(num_class, length=..., vocabulary=..., init=..., seed=...)``.
        image_size: height and width of its images; None: those of the data.
        num_class: default number of outputs; None for texts: the next token, out of the vocabulary.
        num_channel: default number of image channels.
        parameters: names of its trainable parameters, which are compared with those of a model file; empty: no check.
        length: default number of tokens of a text.
        vocabulary: default number of different tokens.
        settings: further keyword arguments of ``build``.
    """

    name: str
    build: Callable[..., Any]
    image_size: tuple[int, int] | None = None
    num_class: int | None = None
    num_channel: int | None = None
    parameters: frozenset[str] = frozenset()
    length: int | None = None
    vocabulary: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def sizes(self, given: NetworkSizes) -> NetworkSizes:
        """Return ``given``, completed by the network's own sizes.

        Raises :class:`OptionError` if a size is in neither, or the network does not take the given image size. What a
        user's network takes is known when it is made.
        """
        if self.own is not None:
            return given
        needed = _IMAGE_SIZES if self.vocabulary is None else _TEXT_SIZES
        values: dict[str, Any] = {}
        for name in needed:
            own, wanted = getattr(self, name), getattr(given, name)
            values[name] = own if wanted is None else wanted
        if values["num_class"] is None:
            values["num_class"] = values.get("vocabulary")
        for name in needed:
            if values[name] is None:
                raise missing_size(self.name, name)
        if self.image_size not in (None, values.get("image_size")) and not self._takes("image_size"):
            height, width = self.image_size or (0, 0)
            raise OptionError(
                f"{self.name} takes images of {height}x{width}, not {'x'.join(map(str, values['image_size']))}",
                hint="a network of your own: --model FILE.py:CLASS",
            )
        return NetworkSizes(**values)

    def make(self, sizes: NetworkSizes, *, init: str | None, seed: int) -> Any:
        """Return the MindSpore cell for ``sizes``.

        ``init`` None: what a user's network sets itself; for a registered one :data:`DEFAULT_INIT`. Raises
        :class:`OptionError` if a size is missing, or no cell is made of these.
        """
        if self.own is not None:
            return self.own(sizes, init=init, seed=seed)
        positional = (sizes.num_class, sizes.num_channel) if self.vocabulary is None else (sizes.num_class,)
        named = {name: getattr(sizes, name) for name in ("image_size", "length", "vocabulary") if self._takes(name)}
        try:
            return self.build(*positional, init=init or DEFAULT_INIT, seed=seed, **named, **self.settings)
        except OptionError:
            raise
        except (TypeError, ValueError, ZeroDivisionError) as error:
            if not self.settings:
                raise
            words = ",".join(f"{name}={value}" for name, value in self.settings.items())
            raise OptionError(f"model {self.name}:{words} cannot be made: {error}") from error

    def with_settings(self, settings: Mapping[str, Any]) -> ModelSpec:
        """Return the network with ``settings``, keyword arguments of ``build`` that are no sizes.

        Raises :class:`OptionError` for a setting that it does not have.
        """
        arguments = inspect.signature(self.build).parameters.values()
        known = [each.name for each in arguments if each.kind is each.KEYWORD_ONLY and each.name not in _SIZES]
        for name in settings:
            if name in _SIZES:
                raise OptionError(
                    f"model {self.name}: {name} is no setting",
                    hint=f"mindfl export --{name}; a job takes it from the data",
                )
            if name not in known:
                hint = did_you_mean(name, known) if known else "leave the settings out"
                raise OptionError(f"model {self.name} has no setting {name}", hint=hint)
        parameters = frozenset() if settings else self.parameters
        return replace(self, settings={**self.settings, **settings}, parameters=parameters)

    @property
    def file_name(self) -> str:
        """The name of its model files, without suffix: ``mlp_train``, or of a user's class ``TinyNet_train``.

        Example:
            >>> model_spec("mobilenet_v2:width=0.5").file_name, model_spec(lambda: None).file_name
            ('mobilenet_v2_train', 'lambda_train')
        """
        plain = re.sub(r"[^\w.-]+", "_", self.name).strip("_.-")
        return f"{plain or 'network'}_train"

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
    ``length`` and ``vocabulary`` that are known, ``init`` and ``seed`` that it has parameters for. MindSpore's
    generators are seeded before.

    Args:
        name: name in messages.
        target: the class or function; or its reference as text, which the process that makes the network loads.
        settings: further keyword arguments.
    """

    name: str
    target: Any
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, sizes: NetworkSizes, *, init: str | None = None, seed: int = 0) -> Any:
        """Return the cell. Raises :class:`OptionError` if it cannot be made or is not a MindSpore cell."""
        from mindfl.models._mindspore import import_mindspore

        mindspore = import_mindspore()
        make = load_object(self.target, "model") if isinstance(self.target, str) else self.target
        state = np.random.get_state()  # which MindSpore's set_seed replaces, also for the rest of the user's program
        try:
            mindspore.set_seed(seed)
            cell = make(**self._taken(make, {**vars(sizes), "seed": seed}, init), **self.settings)
        except OptionError:
            raise
        except Exception as error:
            raise OptionError(f"model {self.name} cannot be made for {sizes.words()}: {raised(error)}") from error
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
        offered = {name: value for name, value in offered.items() if name not in self.settings}
        for name in offered.keys() & arguments.keys():
            if offered[name] is None and arguments[name].default is inspect.Parameter.empty:
                raise missing_size(self.name, name)
        known = {name: value for name, value in offered.items() if value is not None}
        return {name: value for name, value in known.items() if takes_all or name in arguments}


def _build(network: str, settings: Mapping[str, Any], /, *arguments: Any, **given: Any) -> Any:
    module, _, name = network.partition(":")
    return getattr(import_module(f"mindfl.models.{module}"), name)(*arguments, **{**settings, **given})


def _builder(network: str, *sizes: str, **settings: Any) -> Callable[..., Any]:
    """Return what builds ``network``, ``module:class`` of this package, which is imported when it is called.

    ``sizes`` are those that it takes beside the numbers of classes and channels; ``settings`` have their defaults.
    """
    build = partial(_build, network, settings)
    stated = {**dict.fromkeys(sizes, inspect.Parameter.empty), **settings}
    keywords = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=stated[name]) for name in stated]
    vars(build)["__signature__"] = inspect.Signature(keywords)
    return build


_LENET_PARAMETERS = frozenset(
    {"conv1.weight", "conv2.weight", *(f"fc{layer}.{kind}" for layer in (1, 2, 3) for kind in ("weight", "bias"))}
)
_IMAGES, _TEXTS = ("image_size",), ("length", "vocabulary")
_BUILDERS = {
    "lenet": _builder("lenet:LeNet5", *_IMAGES, bias=False),
    "mlp": _builder("multilayer:MLP", *_IMAGES, hidden=200, layers=2),
    "leaf_cnn": _builder("two_convolutions:LeafCNN", *_IMAGES, dense=2048),
    "emnist_cnn": _builder("two_convolutions:EmnistCNN", *_IMAGES, dense=128, dropout=True),
    "resnet8": _builder("resnet:ResNet8", *_IMAGES, width=16),
    "resnet18_gn": _builder("resnet:ResNet18GN", *_IMAGES, width=64, groups=2),
    "mobilenet_v2": _builder("mobilenet:MobileNetV2", *_IMAGES, width=1.0),
    "char_lstm": _builder("char_lstm:CharLSTM", *_TEXTS, embedding=8, hidden=256, layers=2),
    "albert": _builder("albert:Albert", *_TEXTS, embedding=128, hidden=312, layers=4, heads=None, intermediate=None),
}
_SHIPPED = (
    ModelSpec(
        "lenet", _BUILDERS["lenet"], image_size=(32, 32), num_class=62, num_channel=3, parameters=_LENET_PARAMETERS
    ),
    ModelSpec("mlp", _BUILDERS["mlp"], image_size=(28, 28), num_class=10, num_channel=1),
    ModelSpec("leaf_cnn", _BUILDERS["leaf_cnn"], image_size=(28, 28), num_class=62, num_channel=1),
    ModelSpec("emnist_cnn", _BUILDERS["emnist_cnn"], image_size=(28, 28), num_class=62, num_channel=1),
    ModelSpec("resnet8", _BUILDERS["resnet8"], image_size=(32, 32), num_class=10, num_channel=3),
    ModelSpec("resnet18_gn", _BUILDERS["resnet18_gn"], image_size=(32, 32), num_class=10, num_channel=3),
    ModelSpec("mobilenet_v2", _BUILDERS["mobilenet_v2"], image_size=(32, 32), num_class=10, num_channel=3),
    ModelSpec("char_lstm", _BUILDERS["char_lstm"], length=80, vocabulary=90),
    ModelSpec("albert", _BUILDERS["albert"], num_class=4, length=8, vocabulary=11682),
)
MODELS = {spec.name: spec for spec in _SHIPPED}


def missing_size(network: str, name: str) -> OptionError:
    """Return the error that nothing gives the size ``name`` of a network."""
    return OptionError(f"{network} has no {name} of its own", hint=f"give --{name}")


def model_spec(model: Model) -> ModelSpec:
    """Return how the network ``model`` is made.

    Args:
        model: a name in :data:`MODELS`, perhaps with settings, as in ``mobilenet_v2:width=0.5``; likewise
            ``file.py:Class`` or ``module:Class``, as in ``nets.py:TinyNet:width=8``, or the name of an entry point
            ``mindfl.models``; a class or function that makes a MindSpore cell (:class:`OwnNetwork`); or a
            :class:`ModelSpec`.

    Raises:
        OptionError: there is no such network, or a shipped one has no such setting. A file or module is loaded later,
            when the network is made.

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
    found, settings = reference_settings(model, "model")
    if found in MODELS:
        return MODELS[found].with_settings(settings)
    if not is_reference(found):
        packaged = installed(GROUP)
        if found not in packaged:
            raise OptionError(f"unknown model {found!r}", hint=_hint(found, [*MODELS, *packaged]))
        return ModelSpec(found, OwnNetwork(found, packaged[found].value, settings))
    name = found.rpartition(":")[2]
    return ModelSpec(name, OwnNetwork(name, absolute(found), settings))


def _hint(model: str, known: list[str]) -> str:
    return f"{did_you_mean(model, known)}; a network of your own is FILE.py:CLASS"
