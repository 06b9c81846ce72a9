"""The page that maps the tutorial to mindfl: nothing of the tutorial is missing, and what it names exists."""

from __future__ import annotations

import re
import shlex

import pytest
from command_words import all_options, command_of, options
from tutorial_blocks import REPOSITORY

from mindfl.cli import root
from mindfl.cli.simulate import simulate_command

TEXT = (REPOSITORY / "docs" / "mapping.md").read_text()
#: the tutorial's run_client_x86.py
TUTORIAL = """jarPath case_jarPath train_dataset test_dataset vocal_file ids_file path_regex flName train_model_path
infer_model_path train_ms_name infer_ms_name ssl_protocol deploy_env domain_name cert_path if_use_elb server_num task
thread_num cpu_bind_mode train_weight_name infer_weight_name name_regex server_mode batch_size input_shape client_num"""
#: MindSpore Federated 0.1.0's script: what the tutorial's has not
FEDERATED = """fl_jar_path case_jar_path lite_jar_path train_data_dir eval_data_dir infer_data_dir vocab_path ids_path
fl_name origin_train_model_path origin_infer_model_path train_model_dir infer_model_dir use_elb"""


def tables() -> list[list[list[str]]]:
    """Return each table as rows of cells, without its head."""
    found = re.findall(r"(?:^\|.*\n)+", TEXT, re.M)
    return [[line.strip("|").split("|") for line in table.splitlines()[2:]] for table in found]


COMMANDS = re.findall(r"`mindfl (\w[^`]*)`", TEXT)


@pytest.mark.parametrize("text", sorted(set(COMMANDS)))
def test_commands_and_their_options_exist(text: str) -> None:
    words = shlex.split(text)
    known = options(command_of(words))
    given = [word.partition("=")[0] for word in words if word.startswith("--")]
    assert [name for name in given if name not in known] == []


@pytest.mark.parametrize(("number", "names"), [(2, TUTORIAL), (3, FEDERATED)], ids=["tutorial", "0.1.0"])
def test_every_option_of_the_script_has_its_row(number: int, names: str) -> None:
    rows = tables()[number]
    first = [row[0].strip() for row in rows]
    assert sorted(first) == sorted(f"`--{name}`" for name in names.split())


@pytest.mark.parametrize("row", [*tables()[2], *tables()[3]], ids=lambda row: row[0].strip(" `"))
def test_it_is_the_option_of_simulate_beside_it(row: list[str]) -> None:
    known = options(simulate_command)
    theirs, ours = (cell.strip(" `") for cell in row[:2])
    assert known[theirs] is known[ours]


def test_rows_say_that_there_is_no_effect_where_a_warning_does() -> None:
    from mindfl.sim import JobConfig
    from mindfl.sim.option_warnings import unused_settings

    config = JobConfig(vocal_file="v", ids_file="i", path_regex=";", thread_num=2, cpu_bind_mode="BIND_LARGE_CORE")
    warned = {line.split()[0] for line in unused_settings(config)}
    said = {row[1].strip(" `") for row in tables()[2] if "no effect" in row[2]}
    assert said == warned


def test_every_other_option_in_the_text_exists() -> None:
    # The last two are of the tutorial's server script; the page says what they are here.
    known = {*all_options(root), "--scheduler_ip", "--fl_server_port"}
    assert set(re.findall(r"--[a-z]\w+", TEXT)) - known == set()
