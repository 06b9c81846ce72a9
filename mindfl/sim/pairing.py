"""Training parts of one data set with test parts of another."""

from __future__ import annotations

from mindfl.data import Dataset, UserData


class PairedDataset(Dataset):
    """The users of ``train``, each with a test part of ``test``: that of the user of the same name; where no name is in
    both, of the user at the same position; where ``test`` has one user only, of that one.

    Opening a user without such a part raises :class:`DataError`. The users of ``test`` need no train part.
    """

    def __init__(self, train: Dataset, test: Dataset) -> None:
        self.root = train.root
        self.train = train
        self.test = test
        self._by_name = not set(train.users).isdisjoint(test.users)
        self._set_users(list(train.users))

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
