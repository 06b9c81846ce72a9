"""Partitions of samples that have no users: which sample goes to which client."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import OptionError
from mindfl.extensions import reference_settings
from mindfl.spelling import counted, did_you_mean

Indices = NDArray[np.int64]
#: tries to draw a Dirichlet partition in which each client has enough samples
_TRIES = 1000


def partition(labels: NDArray[np.integer[Any]], how: str, users: int, *, seed: int = 0) -> list[Indices]:
    """Divide samples among users by their labels.

    Args:
        labels: class numbers, of shape (samples,); ``iid`` takes other labels too, such as those of a regression.
        how: ``iid``; ``dirichlet:alpha=0.5,least=10`` (each class is divided by shares drawn from a Dirichlet
            distribution, until each user has at least ``least`` samples: arXiv 2102.02079);
            ``balanced_dirichlet:alpha=0.5,least=10`` (the same, but a user that has its equal share of all samples
            gets none of the further classes, as in the programs of that paper); ``shards:per_user=2``
            (samples are sorted by label and cut into shards, of which each user gets some: arXiv 1602.05629);
            ``classes:2`` (each user has samples of so many classes: arXiv 2102.02079).
        users: number of users, at least 1.
        seed: seed of the draw.

    Returns:
        For each user the positions of its samples, ascending. Each sample has one user; each user has a sample.

    Raises:
        OptionError: ``how`` is unknown or has an unusable setting, or needs classes where there are none; or there are
            too few samples for so many users.

    Example:
        >>> labels = np.array([0, 1, 0, 1, 0, 1])
        >>> [labels[chosen].tolist() for chosen in partition(labels, "classes:1", 2)]
        [[0, 0, 0], [1, 1, 1]]
    """
    name, values = check_partition(how, users)
    if len(labels) < users:
        raise OptionError(f"{counted(len(labels), 'sample')} cannot be divided among {counted(users, 'user')}")
    array = np.asarray(labels)
    if name != "iid" and (array.ndim != 1 or array.dtype.kind not in "iu"):
        raise OptionError(
            f"partition {name} divides by class, but the labels are {array.dtype} of shape {array.shape}",
            hint="choose iid",
        )
    divide, _ = _KINDS[name]
    divided = divide(array, users, np.random.default_rng(seed), **values)
    if empty := [index for index, chosen in enumerate(divided) if not len(chosen)]:
        raise OptionError(f"partition {how} leaves user {empty[0]} without samples", hint="choose fewer users")
    return [np.sort(chosen) for chosen in divided]


def check_partition(how: str, users: int) -> tuple[str, dict[str, Any]]:
    """Return name and settings of the partition ``how``. Raises :class:`OptionError` where they cannot be used."""
    name, settings = _parsed(how)
    if type(users) is not int or users < 1:
        raise OptionError(f"users must be a whole number of at least 1, got {users!r}")
    known = _KINDS[name][1]
    for setting in settings:
        if setting not in known:
            raise OptionError(
                f"partition {name} has no setting {setting}", hint=did_you_mean(setting, known or ["none"])
            )
    values = {**known, **settings}
    for setting, value in values.items():
        whole = isinstance(known[setting], int)
        if not isinstance(value, int if whole else (int, float)) or isinstance(value, bool) or not 0 < value < 1e9:
            kind = "whole number of at least 1" if whole else "number above 0"
            raise OptionError(f"partition {name}: {setting} must be a {kind}, got {value!r}")
    return name, values


def _parsed(how: str) -> tuple[str, dict[str, Any]]:
    text, settings = reference_settings(how, "partition")
    name, colon, number = text.partition(":")
    if name not in _KINDS:
        raise OptionError(f"unknown partition {how!r}", hint=did_you_mean(name, _KINDS))
    if colon:
        first = next(iter(_KINDS[name][1]), None)
        if first is None:
            raise OptionError(f"partition {name} has no settings", hint=f"write {name} alone")
        try:
            settings = {first: float(number) if isinstance(_KINDS[name][1][first], float) else int(number)}
        except ValueError:
            raise OptionError(f"partition {name}: {first} must be a number, got {number!r}") from None
    return name, settings


def divide_alike(
    labels: NDArray[np.integer[Any]], train_labels: NDArray[np.integer[Any]], parts: Sequence[Indices], *, seed: int = 0
) -> list[Indices]:
    """Divide test samples so that each user's classes are as frequent as among its train samples.

    Each test sample has one user, so the accuracy of all users together, weighted by their test samples, is that on the
    whole test set.

    Args:
        labels: classes of the test samples.
        train_labels: classes of the train samples.
        parts: for each user the positions of its train samples, as :func:`partition` returns them.
        seed: seed of the draw.

    Returns:
        For each user the positions of its test samples, ascending; there may be none.

    Example:
        >>> train, test = np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0, 1])
        >>> [len(own) for own in divide_alike(test, train, [np.array([0]), np.array([1, 2, 3])])]
        [1, 4]
    """
    rng = np.random.default_rng((seed, 1))
    divided: list[list[Indices]] = [[] for _ in parts]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        counts = np.array([np.count_nonzero(train_labels[part] == label) for part in parts])
        if not counts.any():  # no user trains this class: all are tested on it
            counts = np.ones(len(parts), np.int64)
        cuts = np.rint(np.cumsum(counts)[:-1] / counts.sum() * len(members)).astype(np.int64)
        for own, part in zip(divided, np.split(members, cuts), strict=True):
            own.append(part)
    return [np.sort(np.concatenate(own)) if own else np.zeros(0, np.int64) for own in divided]


def _iid(labels: NDArray[Any], users: int, rng: np.random.Generator) -> list[Indices]:
    return np.array_split(rng.permutation(len(labels)), users)


def _dirichlet(
    labels: NDArray[Any], users: int, rng: np.random.Generator, alpha: float, least: int, *, balanced: bool = False
) -> list[Indices]:
    if least * users > len(labels):
        raise OptionError(
            f"{counted(len(labels), 'sample')} cannot give {counted(users, 'user')} at least {least} each"
        )
    for _ in range(_TRIES):
        shares: list[list[Indices]] = [[] for _ in range(users)]
        counts = np.zeros(users, np.int64)
        for label in np.unique(labels):
            members = rng.permutation(np.flatnonzero(labels == label))
            ends = np.cumsum(rng.dirichlet(np.full(users, alpha)))
            if balanced:
                ends = _ends_of_users_below(ends, counts, len(labels) / users)
            cuts = ends[:-1] * len(members)
            for share, part in zip(shares, np.split(members, cuts.astype(np.int64)), strict=True):
                share.append(part)
            counts = np.array([sum(map(len, share)) for share in shares])
        if counts.min() >= least:
            return [np.concatenate(share) for share in shares]
    name = "balanced_dirichlet" if balanced else "dirichlet"
    raise OptionError(
        f"partition {name}: in {_TRIES} draws with alpha {alpha:g} some user had too few samples, below {least}",
        hint="choose a larger alpha, fewer users, or least=1",
    )


def _ends_of_users_below(ends: NDArray[np.float64], counts: Indices, limit: float) -> NDArray[np.float64]:
    """Return where the users' shares end, of 0..1, if only those with fewer than ``limit`` samples have one."""
    below = counts < limit
    shares = np.where(below, np.diff(ends, prepend=0), 0)
    ends = np.cumsum(shares if shares.any() else below, dtype=np.float64)
    ends /= ends[-1]  # the last is exactly 1, so that no rounding leaves a sample to a user without a share
    return ends


def _shards(labels: NDArray[Any], users: int, rng: np.random.Generator, per_user: int) -> list[Indices]:
    if users * per_user > len(labels):
        raise OptionError(f"{counted(len(labels), 'sample')} cannot be cut into {users * per_user} shards")
    by_label = np.argsort(labels, kind="stable")
    shards = np.array_split(by_label, users * per_user)
    order = rng.permutation(len(shards)).reshape(users, per_user)
    return [np.concatenate([shards[index] for index in own]) for own in order]


def _classes(labels: NDArray[Any], users: int, rng: np.random.Generator, count: int) -> list[Indices]:
    known = np.unique(labels)
    if count > len(known):
        raise OptionError(
            f"partition classes: there are only {counted(len(known), 'class', 'classes')}, fewer than {count}"
        )
    if users * count < len(known):
        raise OptionError(
            f"partition classes: with {count} each, {counted(users, 'user')} cannot have all of {len(known)}",
            hint="choose more users or more classes",
        )
    owners: list[list[int]] = [[] for _ in known]
    for user, chosen in enumerate(_chosen_classes(len(known), users, count, rng)):
        for place in chosen:
            owners[place].append(user)
    divided: list[list[Indices]] = [[] for _ in range(users)]
    for label, own in zip(known, owners, strict=True):
        members = rng.permutation(np.flatnonzero(labels == label))
        for user, part in zip(own, np.array_split(members, len(own)), strict=True):
            divided[user].append(part)
    return [np.concatenate(parts) for parts in divided]


def _chosen_classes(
    classes: int, users: int, count: int, rng: np.random.Generator
) -> Iterator[NDArray[np.integer[Any]]]:
    """Yield the classes of each user, so that each class has a user.

    With no fewer users than classes they are drawn in the order of the published programs of arXiv 2102.02079 and of
    Flower's baseline, so that a seed divides samples as there.
    """
    owned = np.zeros(classes)
    for user in range(users):
        if users >= classes:
            drawn = {user % classes: True}
            while len(drawn) < count:
                drawn[int(rng.choice(classes, 1)[0])] = True
            chosen = np.array(list(drawn))
        else:
            chosen = np.lexsort((rng.random(classes), owned))[:count]
        owned[chosen] += 1
        yield chosen


#: name -> how samples are divided, and the settings with their defaults
_KINDS: dict[str, tuple[Callable[..., list[Indices]], dict[str, float]]] = {
    "iid": (_iid, {}),
    "dirichlet": (_dirichlet, {"alpha": 0.5, "least": 1}),
    "balanced_dirichlet": (partial(_dirichlet, balanced=True), {"alpha": 0.5, "least": 10}),
    "shards": (_shards, {"per_user": 2}),
    "classes": (_classes, {"count": 2}),
}
