"""A data set of arrays in memory. The arrays are not copied; a part is converted when a client uses it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mindfl.data.array_samples import ArraySamples, check_numbers, check_tokens
from mindfl.data.label_numbers import MOST_CLASSES
from mindfl.data.pictures import as_array
from mindfl.data.samples import (
    CENTRAL,
    PARTS,
    TEST_SHARE,
    Dataset,
    SampleForm,
    SampleKind,
    Split,
    UserData,
    check_name,
    checked_labels,
    split_positions,
)
from mindfl.errors import DataError, OptionError
from mindfl.files import PathLike
from mindfl.notices import warn
from mindfl.spelling import counted

#: most channels of a picture; with more, and 1 or 3 rows, channels are probably the second axis
_CHANNELS = 4
#: ids of tokens are int32
_MOST_TOKENS = 1 << 31
_USERS = '{"ann": (images, labels), ...}'
#: accepted forms of a user, for messages
_FORMS = "(images, labels) or (images, labels, test images, test labels)"


class ArrayDataset(Dataset):
    """What :meth:`Dataset.from_arrays` returns; see there for the arguments."""

    kind = "arrays"

    def __init__(
        self,
        users: Mapping[str, Sequence[Any]] | Mapping[int, Sequence[Any]],
        *,
        class_names: Sequence[str] | None = None,
        classes: int | None = None,
        vocabulary: int | None = None,
        central_test: Sequence[NDArray[Any]] | None = None,
        test_share: float | None = None,
        seed: int = 0,
        name: str = "arrays",
    ) -> None:
        self._name = name
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise OptionError(f"seed is {seed!r}, not a whole number of at least 0")
        parts = {user: _checked_user(user, arrays) for user, arrays in _named_users(users).items()}
        central = None if central_test is None else _checked_central(central_test)
        owned = list(_by_owner(parts, central))
        self._set_form(replace(_common_form(parts, central), vocabulary=_vocabulary(vocabulary, owned)))
        self.class_names = _class_names(class_names, classes, self.form, owned)
        self.classes = len(self.class_names)
        if central is not None:
            self.central_test = self._split(CENTRAL, CENTRAL, "central_test", central)
        share = _checked_share(test_share, central)
        self._data = {
            user: self._user_data(user, *pair, share, np.random.default_rng((seed, 2, index)))
            for index, (user, pair) in enumerate(parts.items())
        }
        self._set_users(list(parts))

    @property
    def name(self) -> str:
        """The name given by the caller."""
        return self._name

    @property
    def source(self) -> str:
        """``"arrays"``."""
        return self.kind

    def save(self, output: PathLike) -> None:
        """Write the data set to a folder, from which :func:`mindfl.data.open_dataset` reads it.

        Args:
            output: the new folder.

        Raises:
            OptionError: ``output`` holds something.
            StorageError: it cannot be written.
        """
        from mindfl.data.stored_arrays import save_arrays

        save_arrays(self, output, source=self.name)

    def _user_data(
        self, name: str, train: _Part, test: _Part | None, share: float, rng: np.random.Generator
    ) -> UserData:
        owner = f"user {name}"
        if test is not None or not share:
            splits = [
                self._split(name, owner, f"the {what} part", part or train.take(0))
                for what, part in zip(PARTS, (train, test), strict=True)
            ]
        else:
            orders = split_positions(len(train.labels), rng, share)
            whole = self._split(name, owner, "the train part", train)
            splits = [
                Split(whole.labels[order], len(order), ArraySamples(train.samples, name, self.form, order))
                for order in orders
            ]
        return UserData(name, *splits)

    def _split(self, name: str, owner: str, where: str, part: _Part) -> Split:
        labels = checked_labels(part.labels, owner, where, self.classes, self.form)
        return Split(labels, len(labels), ArraySamples(part.samples, name, self.form))

    def _open(self, name: str) -> UserData:
        return self._data[name]


def _named_users(users: Any) -> dict[str, Any]:
    """Return the users' arrays by name. Whole numbers are names too."""
    if not isinstance(users, Mapping):
        raise DataError(f"users are {type(users).__name__}, not a mapping", hint=_USERS)
    if not users:
        raise DataError("there are no users", hint=_USERS)
    named: dict[str, Any] = {}
    for user, arrays in users.items():
        whole = isinstance(user, int | np.integer) and not isinstance(user, bool)
        name = check_name(str(user) if whole else user)
        if name in named:
            raise DataError(f"two users are named {name}")
        named[name] = arrays
    return named


class _Part(NamedTuple):
    """Samples and labels, and what they are; the vocabulary is not known yet."""

    samples: NDArray[Any]
    labels: NDArray[Any]
    form: SampleForm

    def take(self, count: int) -> _Part:
        """Return the first ``count`` samples."""
        return _Part(self.samples[:count], self.labels[:count], self.form)

    @property
    def noun(self) -> str:
        """What the samples are called in messages."""
        return _noun(self.samples)


def _noun(samples: NDArray[Any]) -> str:
    return "samples" if _is_tokens(samples) or _is_table(samples) else "images"


def _is_tokens(samples: NDArray[Any]) -> bool:
    return samples.dtype == np.int32


def _is_table(samples: NDArray[Any]) -> bool:
    return samples.dtype == np.float32 and samples.ndim == 2


def _checked_user(user: str, arrays: Sequence[NDArray[Any]]) -> tuple[_Part, _Part | None]:
    """Return the train part and the test part; None: none was given."""
    if not isinstance(arrays, tuple | list) or len(arrays) not in (2, 4):
        raise DataError(f"user {user} is not {_FORMS}")
    train = _checked_part(arrays[0], arrays[1], f"user {user}: train")
    if not len(train.labels):
        raise DataError(f"user {user} has no train samples", hint="each user needs at least one")
    if len(arrays) == 2:
        return train, None
    test = zip(arrays[2:], ("images", "labels"), strict=True)
    if all(not as_array(each, f"user {user}: test {what}").size for each, what in test):
        return train, train.take(0)
    return train, _checked_part(arrays[2], arrays[3], f"user {user}: test")


def _checked_part(samples: Any, labels: Any, owner: str) -> _Part:
    values = _checked_samples(samples, owner)
    targets = as_array(labels, f"{owner} labels")
    classes = targets.dtype.kind in "iu" and targets.ndim == 1
    by_token = targets.dtype.kind in "iu" and _is_tokens(values) and targets.shape[1:] == values.shape[-1:]
    regression = targets.dtype == np.float32 and targets.ndim == 2 and targets.shape[1] > 0
    if not (classes or by_token or regression):
        raise DataError(
            f"{owner} labels are {targets.dtype} of shape {targets.shape}",
            hint="give whole numbers [n]"
            + (f", or {[len(values), values.shape[-1]]} for classes of tokens" if _is_tokens(values) else "")
            + "; a regression has float32 [n, numbers]",
        )
    kind: SampleKind = "tokens" if _is_tokens(values) else "numbers" if _is_table(values) else "pictures"
    part = _Part(values, targets, SampleForm(kind, values.shape[1:], None, targets.shape[1:], regression))
    if len(values) != len(targets):
        raise DataError(
            f"{owner} part has {counted(len(values), part.noun[:-1])}, but {counted(len(targets), 'label')}"
        )
    return part


def _checked_samples(samples: Any, owner: str) -> NDArray[Any]:
    """Return a read-only view: of pictures of shape (n, height, width, channels)."""
    view: NDArray[Any] = as_array(samples, f"{owner} images").view()
    view.flags.writeable = False
    if _is_tokens(view) or _is_table(view):
        if view.ndim < 2 or 0 in view.shape[1:]:
            raise DataError(f"{owner} samples have shape {view.shape}", hint="tokens are int32 [n, length]")
        return view if _is_tokens(view) else check_numbers(view, owner)
    if view.dtype not in (np.uint8, np.float32):
        raise DataError(
            f"{owner} images are {view.dtype}",
            hint="give uint8 (0..255) or float32 (0..1); ids of tokens are int32",
        )
    if view.ndim not in (3, 4) or 0 in view.shape[1:]:
        table = " as float32" if view.ndim == 2 else ""
        raise DataError(
            f"{owner} images have shape {view.shape}",
            hint=f"[n, height, width] or [n, height, width, channels]; other numbers as rows [n, numbers]{table}",
        )
    if view.dtype == np.float32 and view.size and not (view.min() >= 0 and view.max() <= 1):
        found = "NaN" if np.isnan(view.min()) else f"values from {view.min():g} to {view.max():g}"
        raise DataError(
            f"{owner} images hold {found}",
            hint="float32 must be in 0..1, uint8 is 0..255; numbers that are no images are rows [n, numbers]",
        )
    if view.ndim == 4 and view.shape[1] in (1, 3) and min(view.shape[2:]) > _CHANNELS:
        warn(f"{owner} images of shape {view.shape} have {view.shape[3]} channels: channels are the last axis")
    return view if view.ndim == 4 else view[..., None]


def _checked_central(given: Any) -> _Part:
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise DataError("central_test is not (images, labels)")
    part = _checked_part(given[0], given[1], "central_test")
    if not len(part.labels):
        raise DataError("central_test has no samples", hint="leave it out where there are none")
    return part


def _checked_share(share: Any, central: _Part | None) -> float:
    """Return the share of test samples of users who have none."""
    if share is None:
        return TEST_SHARE if central is None else 0
    if isinstance(share, bool) or not isinstance(share, float | int) or not 0 <= share < 1:
        raise DataError(f"test_share must be a number from 0 to below 1, got {share!r:.60}", hint="0: no test samples")
    return share


def _common_form(parts: Mapping[str, tuple[_Part, _Part | None]], central: _Part | None) -> SampleForm:
    """Return the form. Raises :class:`DataError` if two users, or a user and ``central``, differ."""
    first, (train, _) = next(iter(parts.items()))
    for user, pair in parts.items():
        for what, part in zip(PARTS, pair, strict=True):
            if part is not None and part.form != train.form:
                raise DataError(
                    f"user {user}: {what} {part.noun} are {part.form.words()}, but those of {first} are"
                    f" {train.form.words()}"
                )
    if central is not None and central.form != train.form:
        raise DataError(
            f"central_test {central.noun} are {central.form.words()}, but those of {first} are {train.form.words()}"
        )
    return train.form


def _vocabulary(given: Any, parts: Sequence[tuple[str, _Part]]) -> int | None:
    """Return the number of tokens. Raises :class:`DataError` where a token is outside, or samples are no tokens."""
    if parts[0][1].form.kind != "tokens":
        if given is not None:
            raise DataError("vocabulary is for tokens, which are int32 arrays", hint="leave it out")
        return None
    if given is None:
        given = 1 + max(int(part.samples.max(initial=0)) for _, part in parts)
    whole = isinstance(given, int | np.integer) and not isinstance(given, bool)
    if not (whole and 0 < given <= _MOST_TOKENS):
        raise DataError(f"vocabulary must be a whole number from 1 to {_MOST_TOKENS}, got {given!r:.60}")
    for owner, part in parts:
        check_tokens(part.samples, owner, int(given))
    return int(given)


def _class_names(names: Any, classes: Any, form: SampleForm, parts: Iterable[tuple[str, _Part]]) -> tuple[str, ...]:
    if form.regression:
        if names is not None or classes is not None:
            raise DataError("labels are numbers of a regression, so there are no classes", hint="leave them out")
        return ()
    whole = isinstance(classes, int | np.integer) and not isinstance(classes, bool)
    if classes is not None and not (whole and 0 < classes <= MOST_CLASSES):
        raise DataError(f"classes must be a whole number from 1 to {MOST_CLASSES}, got {classes!r:.60}")
    if names is None:
        return tuple(map(str, range(_classes(parts) if classes is None else classes)))
    texts = tuple(names) if isinstance(names, Iterable) and not isinstance(names, str) else ()
    usable = all(isinstance(name, str) and name and name.isprintable() for name in texts)
    if not texts or not usable or len({*texts}) != len(texts):
        raise DataError(f"class_names {names!r:.60} are not different texts", hint='such as ["cat", "dog"]')
    if classes not in (None, len(texts)):
        raise DataError(
            f"there are {counted(len(texts), 'class name')}, but {counted(classes or 0, 'class', 'classes')}"
        )
    return tuple(map(str, texts))


def _by_owner(parts: Mapping[str, tuple[_Part, _Part | None]], central: _Part | None) -> Iterator[tuple[str, _Part]]:
    """Yield each part with its name in messages."""
    for user, pair in parts.items():
        for what, part in zip(PARTS, pair, strict=True):
            if part is not None:
                yield f"user {user}: the {what} part", part
    if central is not None:
        yield "central_test", central


def _classes(parts: Iterable[tuple[str, _Part]]) -> int:
    """Return the largest label and one."""
    most = 0
    for owner, part in parts:
        largest = int(part.labels.max(initial=0))
        if largest >= MOST_CLASSES:
            raise DataError(f"{owner} has the label {largest}, mindfl takes up to {MOST_CLASSES} classes")
        most = max(most, largest)
    return most + 1
