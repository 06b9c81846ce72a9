"""docs/options.md, the keywords for type checkers, and the functions behind commands say what the declarations say."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import get_type_hints

import options_page
import pytest

from mindfl.errors import OptionError
from mindfl.options import options_of
from mindfl.options.job_options import JobOptions
from mindfl.options.keywords import JobKeywords


def test_the_page_is_up_to_date() -> None:
    assert options_page.PAGE.read_text() == options_page.page(), "run: make options"


def test_the_keywords_are_up_to_date() -> None:
    assert options_page.KEYWORDS.read_text() == options_page.keywords(), "run: make options"
    assert get_type_hints(JobKeywords).keys() == JobOptions.__dataclass_fields__.keys()


COMMANDS = {function: declarations for (_, function), declarations in options_page.COMMANDS.items()}


@pytest.mark.parametrize("function", COMMANDS, ids=lambda function: function.__name__)
def test_a_function_has_the_defaults_and_ranges_of_its_command(function: Callable[..., object]) -> None:
    given = {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not parameter.empty
    }
    declared = options_of(COMMANDS[function])
    shared = given.keys() & declared.keys()
    assert {name: given[name] for name in shared} == {name: declared[name].default for name in shared}
    limited = [name for name in inspect.signature(function).parameters if name in declared and declared[name].limits]
    for name in limited:
        with pytest.raises(OptionError, match=f"^{name} must be "):
            function(**{**usable_arguments(function), name: -1})


def usable_arguments(function: Callable[..., object]) -> dict[str, str]:
    """Return values of the parameters without default."""
    parameters = inspect.signature(function).parameters.values()
    return {each.name: "bin" if each.name == "format" else "x" for each in parameters if each.default is each.empty}
