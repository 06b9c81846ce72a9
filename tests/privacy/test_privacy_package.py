"""What the package offers, and what it does not import before it is needed."""

import importlib
import subprocess
import sys

import pytest

from mindfl import privacy


def test_names_are_sorted_and_those_of_the_lazy_table():
    assert privacy.__all__ == sorted(privacy._HOMES)
    for name in privacy.__all__:
        value = getattr(privacy, name)
        assert value is getattr(importlib.import_module(privacy._HOMES[name]), name) and value.__doc__
    with pytest.raises(AttributeError, match="nonsense"):
        privacy.nonsense  # noqa: B018


def test_what_is_heavy_is_imported_late():
    program = (
        "import sys, mindfl.privacy; from mindfl.privacy import *; "
        "print(sorted({'scipy', 'cryptography', 'dp_accounting', 'numba', 'mindspore'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert result.stdout.strip() == "[]"
