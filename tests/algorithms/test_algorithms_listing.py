"""``mindfl algorithms``, and docs/algorithms.md beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from mindfl.algorithms.listing import describe_algorithm, list_algorithms
from mindfl.algorithms.naming import REGISTERED, make_algorithm
from mindfl.cli.algorithms import algorithms_command
from mindfl.errors import OptionError
from mindfl.modes import NAMES
from mindfl.sim import FederatedJob

PAGE = Path(__file__).parents[2] / "docs" / "algorithms.md"


def test_the_page_has_a_row_for_each_with_its_settings() -> None:
    rows = [line.split("|") for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| `")]
    named = [(row[1].strip(" `"), row[2].strip()) for row in rows if row[1].strip(" `") in REGISTERED]
    settings = dict(reversed(named))  # of the first table: later ones say other things
    assert settings == {
        each.name: " ".join(f"{key}={value:g}" for key, value in each.settings.items()) for each in list_algorithms()
    }


def test_the_list_names_all_with_their_settings() -> None:
    lines = CliRunner().invoke(algorithms_command, []).output.splitlines()
    assert [line.split()[0] for line in lines] == list(REGISTERED)
    assert "mu=0.1" in lines[list(REGISTERED).index("fedprox")]


def test_one_is_described_in_words_and_as_json() -> None:
    text = CliRunner().invoke(algorithms_command, ["scaffold"]).output
    assert "travels        1 x the weights' size and 1 number" in text
    found = json.loads(CliRunner().invoke(algorithms_command, ["fedadam:eta=0.5", "--json"]).output)
    assert found["settings"]["eta"] == 0.5
    assert found["servers"] == ["embedded", "mindfl server"]


@pytest.mark.parametrize("name", REGISTERED)
def test_what_is_listed_is_what_a_job_takes(name: str, tmp_path: Path) -> None:
    listed = describe_algorithm(name)

    def works(**settings: Any) -> bool:
        try:
            FederatedJob(work_dir=tmp_path, algorithm=name, **settings)
        except OptionError as error:
            assert "does not work here" in str(error)
            return False
        return True

    assert tuple(mode for mode in NAMES if works(encrypt_type=mode)) == listed.upload_modes
    assert works(engine="mindspore") == ("mindspore" in listed.engines)
    assert works(domain_name="http://127.0.0.1:9") == ("MindSpore Federated" in listed.servers)


@pytest.mark.parametrize("name", REGISTERED)
def test_numbers_that_travel_take_no_place_of_a_weight(name: str) -> None:
    """A weight "norm" was moved by FedNova's norm of the gradients."""
    model = {word: np.zeros(3, np.float32) for word in ("norm", "h", "share", "clients", "weight")}
    extras = make_algorithm(name).extras(model)
    assert all(np.size(values) == 3 for word, values in extras.items() if word in model)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(OptionError) as refused:
        describe_algorithm("fedporx")
    assert refused.value.hint == "did you mean fedprox?"
