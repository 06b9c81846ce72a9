"""An experiment file with all options of a job and what they mean, written from their declarations."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator

from mindfl.options import Option, options_of
from mindfl.options.job_options import GROUPS, JobOptions

_WIDTH = 100
_HEAD = """\
# An experiment of mindfl: `mindfl run FILE` runs it, `mindfl sweep FILE --work_dir DIR` all runs of [sweep].
# Each key is an option of `mindfl simulate`. A line that begins with # does nothing; its value is the default, or in
# capitals or by the words above it what may stand there. Relative paths are relative to this file's folder.

client_num = 10
iterations = 20
"""
_TAIL = """\

# ---- Many runs ----
# Remove the # of these lines, and each algorithm runs with each seed.
# [sweep]
# algorithm = ["fedavg", "fedprox:mu=0.1"]
# seed = [0, 1, 2]
# [sweep.size]                               # cases: each has a name, and sets options together
# small = { client_num = 10, epochs = 1 }
# large = { client_num = 50, epochs = 5 }
"""


def template_text() -> str:
    """Return the file, as TOML.

    Example:
        >>> template_text().splitlines()[4:6]
        ['client_num = 10', 'iterations = 20']
    """
    return "".join((_HEAD, *_groups(), _TAIL))


def _groups() -> Iterator[str]:
    options = [option for name, option in options_of(JobOptions).items() if name not in ("resume", "overwrite")]
    for group in GROUPS:
        members = [option for option in options if option.group == group]
        if members:  # those of the group "Output" belong to a call
            yield f"\n# ---- {group} ----\n"
        for option in members:
            yield "\n" + "".join(f"# {line}\n" for line in textwrap.wrap(_help(option), _WIDTH))
            yield f"# {option.name} = {_value(option)}\n"


def _help(option: Option) -> str:
    facts = (option.requirement if option.limits or option.choices else "", option.unit)
    default = f"default: {option.shown}" if option.shown else ""
    details = "; ".join(filter(None, (*facts, default)))
    return f"{option.help} [{details}]" if details else option.help


def _value(option: Option) -> str:
    """Return the default as TOML; where it is None or an object, a value that has the right type."""
    if option.default is None or (option.kind is object and not isinstance(option.default, str)):
        return {bool: "true", int: "1", float: "0.1"}.get(option.kind, '""')
    return json.dumps(str(option.default)) if option.kind not in (bool, int, float) else json.dumps(option.default)
