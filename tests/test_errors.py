"""The exception tree, its codes, and its page in docs/."""

from __future__ import annotations

import errno
import pickle
import re
from pathlib import Path

import pytest

from mindfl import errors
from mindfl.errors import ClientError, MindflError, StorageError

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, MindflError)]
_PAGE = Path(__file__).parents[1] / "docs" / "errors.md"


def test_codes_are_unique() -> None:
    assert len({error.code for error in CLASSES}) == len({error.exit_code for error in CLASSES}) == len(CLASSES)


def test_page_lists_exactly_these_codes() -> None:
    rows = re.findall(r"^\| `(E-[A-Z-]+)` \| (\d+) \| `(\w+)` \|", _PAGE.read_text(), re.MULTILINE)
    assert rows == [(error.code, str(error.exit_code), error.__name__) for error in sorted(CLASSES, key=_exit_code)]


def _exit_code(error: type[MindflError]) -> int:
    return error.exit_code


@pytest.mark.parametrize("error", CLASSES)
def test_every_class_is_in_the_tree_of_the_docstring(error: type[MindflError]) -> None:
    assert errors.__doc__ is not None and re.search(rf"\b{error.__name__}\b", errors.__doc__)


def test_an_error_is_one_line() -> None:
    error = MindflError("two\nlines  of\ttext", hint="do\nthis")
    assert str(error) == "two lines of text"
    assert error.line() == "two lines of text (do this) [E-GENERAL]"
    assert MindflError("no hint").line() == "no hint [E-GENERAL]"


def test_client_error_names_client_and_iteration() -> None:
    error = ClientError("f1", 3, "the disk melted", hint="cool it")
    assert (error.client, error.iteration) == ("f1", 3)
    assert error.line() == "client f1 failed in iteration 3: the disk melted (cool it) [E-CLIENT]"


@pytest.mark.parametrize(
    ("number", "hint"), [(errno.ENOSPC, "disk is full"), (errno.EACCES, "permission"), (errno.EIO, "")]
)
def test_storage_error_explains_the_systems_reason(number: int, hint: str) -> None:
    error = StorageError.from_os_error(OSError(number, "the reason"), "write", "/some/file")
    assert str(error) == "cannot write /some/file: the reason"
    assert hint in error.hint and bool(error.hint) == bool(hint)


def test_errors_pass_from_process_to_process() -> None:
    sent = ClientError("f0", 7, "the loss is nan", hint="lower the learning rate")
    received = pickle.loads(pickle.dumps(sent))
    assert (str(received), received.hint, received.client, received.iteration) == (str(sent), sent.hint, "f0", 7)
