"""Training parts of one data set with test parts of another."""

from __future__ import annotations

from mindfl.data import Dataset, UserData
from mindfl.errors import DataError


class PairedDataset(Dataset):
    """The users of ``train``, each with a test part of ``test``: that of the user of the same name; where no name is in
    both, of the user at the same position; where ``test`` has one user only, of that one.

    Opening a user without such a part raises :class:`DataError`. The users of ``test`` need no train part.
    """

    def __init__(self, train: Dataset, test: Dataset) -> None:
        self.train = train
        self.test = test
        for name in ("image_size", "channels"):
            own, other = getattr(train, name), getattr(test, name)
            if own != other:
                raise DataError(f"{train.name} has {name} {own}, but its test data set {test.name} has {other}")
        if test.classes > train.classes:
            raise DataError(
                f"{train.name} has {train.classes} classes, but its test data set {test.name} {test.classes}"
            )
        self.image_size, self.channels, self.grey = train.image_size, train.channels, train.grey and test.grey
        self.classes, self.class_names = train.classes, train.class_names
        self._by_name = not set(train.users).isdisjoint(test.users)
        self._set_users(list(train.users))

    @property
    def name(self) -> str:
        """That of the training data."""
        return self.train.name

    @property
    def title(self) -> str:
        """That of the training data."""
        return self.train.title

    @property
    def source(self) -> str:
        """Where the training samples come from."""
        return self.train.source

    def partner(self, name: str) -> str | int:
        """Return name or position of the user in the test data set whose test part ``name`` gets."""
        if len(self.test) == 1:
            return 0
        return name if self._by_name else self._positions[name]

    def _open(self, name: str) -> UserData:
        user = self.train.user(name)
        return UserData(name, user.train, self.test.test_part(self.partner(name)))
