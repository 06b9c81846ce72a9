"""An option is declared once: its check, its option on the command line, its help and its completion follow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mindfl.cli.declared import GroupedCommand, declared_options
from mindfl.cli.simulate import simulate_command
from mindfl.errors import OptionError
from mindfl.options import check_options, option, options_of

Colour = Literal["red", "green"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Declarations as a module of mindfl has them."""

    count: int = option(3, least=1, most=9, help="How many.", group="Numbers")
    window: int | None = option(None, least=1, unit="ms", shown="none", help="How long.", group="Numbers")
    rate: float = option(0.5, above=0, help="How fast.", group="Numbers")
    share: float = option(0.1, least=0, below=1, help="How much.", group="Numbers")
    colour: Colour = option("red", help="Which colour.", group="Words")
    folder: Path | None = option(None, spellings=("--dataFolder", "--data_folder"), help="Where.", group="Words")
    loud: bool = option(False, help="Loudly.", group="Words")
    elastic: bool = option(False, takes_value=True, help="With a value.", group="Words")
    network: Colour | Any | None = option(None, help="A name, or an object.", group="Words")

    def __post_init__(self) -> None:
        check_options(self)


class Grouped(GroupedCommand):
    groups = ("Numbers", "Words")


@click.command(cls=Grouped)
@declared_options(Settings)
def command(**given: Any) -> None:
    click.echo(given)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(command, arguments)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"count": 0}, "count must be a whole number of at least 1 and at most 9, got 0"),
        ({"count": 2.0}, "count must be a whole number of at least 1 and at most 9, got 2.0"),
        ({"count": True}, "count must be a whole number of at least 1 and at most 9, got True"),
        ({"count": None}, "count must be a whole number of at least 1 and at most 9, got None"),
        ({"window": 0}, "window must be a whole number of at least 1, got 0"),
        ({"rate": 0.0}, "rate must be a finite number above 0, got 0.0"),
        ({"rate": math.nan}, "rate must be a finite number above 0, got nan"),
        ({"rate": math.inf}, "rate must be a finite number above 0, got inf"),
        ({"rate": 1e39}, "rate 1e+39 is beyond 32-bit floating point numbers"),
        ({"window": 10**5000}, "window is a number of thousands of digits: records could not hold it"),
        ({"rate": 1e-39}, "rate 1e-39 is beyond 32-bit floating point numbers"),
        ({"rate": 10**5000}, "rate a number of thousands of digits is beyond 32-bit floating point numbers"),
        ({"share": 1}, "share must be a number of at least 0 and below 1, got 1"),
        ({"colour": "gren"}, "colour must be one of red, green, got 'gren' (did you mean green?)"),
        ({"colour": 7}, "colour must be one of red, green, got 7"),
        ({"folder": 7}, "folder must be a path, got 7"),
        ({"loud": "yes"}, "loud must be True or False, got 'yes'"),
    ],
)
def test_a_value_is_refused_with_the_whole_requirement(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionError) as caught:
        Settings(**settings)
    hint = f" ({caught.value.hint})" if caught.value.hint else ""
    assert f"{caught.value}{hint}" == text


@given(st.integers() | st.floats() | st.text(max_size=3) | st.none() | st.booleans())
def test_what_is_kept_is_in_range(value: Any) -> None:
    declared = options_of(Settings)["share"]
    try:
        kept = declared.check(value)
    except OptionError as error:
        assert "share" in str(error)
    else:
        assert 0 <= kept < 1 and type(kept) in (int, float)


def test_numbers_of_numpy_become_those_of_python_and_paths_are_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/a home")
    kept = Settings(count=np.int64(2), rate=np.float32(0.25), folder="~/x")
    assert (kept.count, kept.rate, kept.folder) == (2, 0.25, Path("/a home/x"))
    assert type(kept.count) is int and type(kept.rate) is float


def test_an_object_is_taken_as_it_is() -> None:
    thing = object()
    assert Settings(network=thing).network is thing
    assert Settings(network="nets.py:TinyNet").network == "nets.py:TinyNet"


class TestCommandLine:
    def test_every_spelling_and_its_dashed_twin(self) -> None:
        for name in ("--dataFolder", "--data_folder", "--data-folder"):
            assert "'folder': 'here'" in run(name, "here").output

    def test_values_have_their_types(self) -> None:
        output = run("--count", "4", "--rate", "2", "--elastic", "true", "--loud").output
        assert "'count': 4" in output and "'rate': 2.0" in output
        assert "'elastic': True" in output and "'loud': True" in output

    @pytest.mark.parametrize("name", ["count", "window", "rate", "colour", "data_folder", "elastic", "network"])
    def test_null_is_left_to_the_command(self, name: str) -> None:
        assert "'null'" in run(f"--{name}", "null").output

    def test_what_is_out_of_range_is_the_error_of_python(self) -> None:
        outcome = run("--count", "0")
        assert str(outcome.exception) == "count must be a whole number of at least 1 and at most 9, got 0"
        assert "did you mean green?" in run("--colour", "gren").exception.hint
        assert "'x' is not a valid integer" in run("--count", "x").output

    def test_the_help_says_group_range_unit_and_default(self) -> None:
        text = " ".join(run("--help").output.split())
        assert "Numbers: --count INTEGER How many. [at least 1 and at most 9; default: 3]" in text
        assert "--window INTEGER How long. [ms, at least 1; default: none]" in text
        assert "Words: --colour [red|green] Which colour. [default: red]" in text
        assert "--dataFolder, --data_folder PATH Where. --loud Loudly." in text

    def test_the_shell_completes_choices_and_paths(self) -> None:
        def completed(name: str, incomplete: str) -> list[tuple[str, str]]:
            shell = ShellComplete(simulate_command, {}, "mindfl", "_MINDFL_COMPLETE")
            return [(item.value, item.type) for item in shell.get_completions([name], incomplete)]

        assert completed("--engine", "") == [("lite", "plain"), ("mindspore", "plain")]
        assert completed("--encrypt_type", "PW") == [("PW_ENCRYPT", "plain"), ("PW_EXACT", "plain")]
        assert completed("--train_dataset", "fem") == [("fem", "file")]
