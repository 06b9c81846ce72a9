"""What notebooks show of a data set: counts, users, and samples of its first users."""

from __future__ import annotations

from contextlib import suppress

from mindfl.data.contact_sheet import ContactSheet
from mindfl.data.samples import Dataset
from mindfl.errors import DataError
from mindfl.markup import picture, section, table
from mindfl.spelling import counted

#: users of whom samples are shown
_USERS = 4


def dataset_html(dataset: Dataset) -> str:
    """Return a table of users, and of pictures a row for each of the first users that can be read."""
    counts = f"{counted(len(dataset), 'user')}, {counted(dataset.classes, 'class', 'classes')}"
    note = f"{counts}, samples: {dataset.form.words()}"
    users = table(["user", "train samples", "test samples"], dataset.users, lambda name: _sizes(dataset, name))
    return section(dataset.name, users, _samples(dataset), note=note)


def _sizes(dataset: Dataset, name: str) -> list[object]:
    try:
        user = dataset.user(name)
    except DataError as error:
        return [name, str(error), ""]
    return [name, user.train.size, user.test.size]


def _samples(dataset: Dataset) -> str:
    if dataset.form.kind != "pictures" or dataset.form.label_shape or not dataset.classes:
        return ""
    sheet, drawn = ContactSheet("samples.png", dataset), 0
    for name in dataset.users[:_USERS]:
        with suppress(DataError):  # the table tells
            sheet.add(dataset.user(name))
            drawn += 1
    return picture(sheet.content(), f"samples of the first {counted(drawn, 'user')}") if drawn else ""
