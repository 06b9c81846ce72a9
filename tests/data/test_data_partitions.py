"""Partitions of samples that have no users."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindfl.data import partition
from mindfl.data.partitions import divide_alike
from mindfl.errors import OptionError

LABELS = np.random.default_rng(0).integers(0, 10, 2000)
DIVISIONS = (
    *("iid", "dirichlet:alpha=0.3", "dirichlet:2", "balanced_dirichlet"),
    *("shards", "shards:per_user=3", "classes:3", "classes:10"),
)


@given(
    st.sampled_from(
        [
            "iid",
            "dirichlet:alpha=0.3",
            "dirichlet:2",
            "balanced_dirichlet",
            "shards",
            "shards:per_user=3",
            "classes:3",
            "classes:10",
        ]
    ),
    st.integers(4, 20),
    st.integers(0, 2**32),
)
def test_each_sample_has_one_user_and_each_user_a_sample(how: str, users: int, seed: int) -> None:
    parts = partition(LABELS, how, users, seed=seed)
    assert len(parts) == users
    assert min(map(len, parts)) > 0
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(LABELS)))
    for again, part in zip(partition(LABELS, how, users, seed=seed), parts, strict=True):
        np.testing.assert_array_equal(again, part)


@given(st.integers(1, 10), st.integers(5, 30), st.integers(0, 2**32))
def test_classes_gives_each_user_so_many(count: int, users: int, seed: int) -> None:
    if users * count < 10:
        return
    for part in partition(LABELS, f"classes:{count}", users, seed=seed):
        assert len(np.unique(LABELS[part])) == count


@pytest.mark.parametrize("seed", [0, 42])
def test_classes_are_drawn_as_in_the_published_programs(seed: int) -> None:
    """Flower's baselines/niid_bench: user i has class i, draws others singly, and owners divide a shuffled class."""
    rng = np.random.default_rng(seed)
    owned = []
    for user in range(10):
        mine = [user]
        while len(mine) < 3:
            another = rng.choice(10, 1)[0]
            if another not in mine:
                mine.append(another)
        owned.append(mine)
    expected: list[list[int]] = [[] for _ in range(10)]
    for label in range(10):
        members = np.where(label == LABELS)[0]
        rng.shuffle(members)
        owners = [user for user in range(10) if label in owned[user]]
        for user, part in zip(owners, np.array_split(members, len(owners)), strict=True):
            expected[user] += part.tolist()
    for part, positions in zip(partition(LABELS, "classes:3", 10, seed=seed), expected, strict=True):
        assert part.tolist() == sorted(positions)


def test_iid_users_differ_by_one_sample_and_have_all_classes() -> None:
    parts = partition(LABELS, "iid", 7)
    assert {len(part) for part in parts} == {285, 286}
    assert all(len(np.unique(LABELS[part])) == 10 for part in parts)


def test_dirichlet_with_a_large_alpha_is_even_and_with_a_small_one_is_not() -> None:
    def spread(alpha: float) -> float:
        parts = partition(LABELS, f"dirichlet:alpha={alpha}", 10, seed=1)
        return float(np.std([np.bincount(LABELS[part], minlength=10) for part in parts], axis=0).mean())

    assert spread(1000) < 3 < 20 < spread(0.1)


def test_dirichlet_leaves_each_user_so_many() -> None:
    assert min(map(len, partition(LABELS, "dirichlet:alpha=0.1,least=40", 10))) >= 40


@given(st.floats(0.01, 5), st.integers(2, 12), st.integers(0, 2**32))
def test_balanced_dirichlet_gives_no_class_to_a_user_that_has_its_share(alpha: float, users: int, seed: int) -> None:
    parts = partition(LABELS, f"balanced_dirichlet:alpha={alpha},least=1", users, seed=seed)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(LABELS)))
    for part in parts:
        counts = np.bincount(LABELS[part])
        assert counts[:-1].sum() < len(LABELS) / users, "it had its share before its last class"


def test_balanced_dirichlet_divides_by_the_shares_that_are_drawn() -> None:
    """Written from the algorithm of NIID-Bench; the draw is one in which no user has too few."""
    rng, counts = np.random.default_rng(3), np.zeros(4, int)
    for label in range(10):
        members = LABELS.tolist().count(label)
        rng.permutation(members)
        ends = np.cumsum(rng.dirichlet([0.5] * 4) * (counts < len(LABELS) / 4))
        counts += np.diff([0, *(ends[:-1] / ends[-1] * members).astype(int), members])
    parts = partition(LABELS, "balanced_dirichlet", 4, seed=3)
    assert [len(part) for part in parts] == counts.tolist() and min(counts) >= 10


def test_shards_have_few_classes() -> None:
    for part in partition(LABELS, "shards:per_user=2", 20):
        assert len(part) == 100
        assert len(np.unique(LABELS[part])) <= 4  # a shard may end in the next class


def test_test_samples_follow_the_classes_of_training() -> None:
    parts = partition(LABELS, "dirichlet:alpha=0.3", 5, seed=2)
    other = np.random.default_rng(1).integers(0, 10, 1000)
    tested = divide_alike(other, LABELS, parts)
    assert sorted(np.concatenate(tested).tolist()) == list(range(1000))
    for own, part in zip(tested, parts, strict=True):
        expected = np.bincount(LABELS[part], minlength=10) / np.bincount(LABELS, minlength=10)
        found = np.bincount(other[own], minlength=10) / np.bincount(other, minlength=10)
        np.testing.assert_allclose(found, expected, atol=0.02)


def test_a_class_that_is_not_trained_is_tested_all_the_same() -> None:
    tested = divide_alike(np.array([0, 1, 1]), np.array([0, 0]), [np.array([0]), np.array([1])])
    assert sorted(np.concatenate(tested).tolist()) == [0, 1, 2]


@pytest.mark.parametrize(
    ("how", "users", "words"),
    [
        ("iidd", 3, "did you mean iid?"),
        ("iid:3", 3, "partition iid has no settings"),
        ("dirichlet:alpha=0", 3, "alpha must be a number above 0, got 0"),
        ("dirichlet:alpha=nan", 3, "alpha must be a number above 0, got nan"),
        ("dirichlet:beta=2", 3, "no setting beta"),
        ("dirichlet:least=300", 10, "2000 samples cannot give 10 users at least 300 each"),
        ("dirichlet:alpha=0.0001,least=190", 10, "choose a larger alpha"),
        ("classes:11", 3, "there are only 10 classes, fewer than 11"),
        ("classes:2", 3, "with 2 each, 3 users cannot have all of 10"),
        ("classes:2.5", 30, "count must be a number, got '2.5'"),
        ("classes:x", 30, "count must be a number, got 'x'"),
        ("shards:per_user=900", 3, "2000 samples cannot be cut into 2700 shards"),
        ("iid", 0, "users must be a whole number of at least 1"),
        ("iid", 2001, "2000 samples cannot be divided among 2001 users"),
    ],
)
def test_what_cannot_be_made_is_refused(how: str, users: int, words: str) -> None:
    with pytest.raises(OptionError) as refused:
        partition(LABELS, how, users)
    assert words in f"{refused.value} {refused.value.hint}"
