"""The table of the operators that MindSpore Lite trains with, and whether the runtime has them: ``docs/operators.md``.

``python -m mindfl.lite.operator_table`` prints it as Markdown, and ``mindfl inspect --operators`` for a terminal.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from mindfl.lite.ops import EXECUTED
from mindfl.lite.ops.registry import OWN
from mindfl.lite.schema import OPERATORS

#: tags of the operators that training files hold
_TAGS: Final = (
    "1 2 3 4 5 7 8 10 14 17 18 19 20 23 24 25 26 27 28 31 33 34 35 44 47 48 49 50 53 55 56 61 62 66 68 69 "
    "71 72 75 77 78 79 80 87 89 90 91 92 93 96 97 99 100 101 102 105 106 107 109 110 116 117 118 119 126 "
    "127 129 130 131 132 135 136 137 138 139 143 145 146 147 148 149 150 151 152 153 160 162 164 165 167 "
    "169 170 179 183 184 185 186 189 204 205 207 208 211 220"
)

_HEAD: Final = """# Operators of the runtime

MindSpore Lite's operators for training, by their tag in a `.ms` file. The runtime has {done} of these {all}, and others
beside them. A file with an operator that it lacks is refused when it is loaded, with the operator's name and its node;
`--engine mindspore` trains such a network without a file, and an operator of your own can be added
([extending.md](extending.md)).

This file is made by `python -m mindfl.lite.operator_table > docs/operators.md`.

| tag | operator | runtime |
|---|---|---|
"""


class TrainingOperator(NamedTuple):
    """An operator of MindSpore Lite for training: its tag in the file, its name, and whether the runtime has it."""

    tag: int
    name: str
    executed: bool


def training_operators() -> tuple[TrainingOperator, ...]:
    """Return MindSpore Lite's operators for training, by tag; those of the user's own count as the runtime's.

    Example:
        >>> training_operators()[0]
        TrainingOperator(tag=1, name='Abs', executed=True)
    """
    names = {tag: OPERATORS[tag].name for tag in map(int, _TAGS.split())}
    executed = {*EXECUTED, *(own.op for own in OWN)}
    return tuple(TrainingOperator(tag, name, name in executed) for tag, name in names.items())


def operator_listing() -> str:
    """Return the table for a terminal.

    Example:
        >>> operator_listing().splitlines()[1]
        '  1  Abs                                yes'
    """
    found = training_operators()
    rows = [f"{each.tag:>3}  {each.name:<34} {'yes' if each.executed else 'no'}" for each in found]
    head = f"The device runtime has {sum(each.executed for each in found)} of {len(found)} operators for training:"
    return "\n".join([head, *rows])


def operator_table() -> str:
    """Return the table as Markdown.

    Example:
        >>> "| 35 | Conv2DFusion | yes |" in operator_table()
        True
    """
    found = training_operators()
    rows = [f"| {each.tag} | {each.name} | {'yes' if each.executed else 'no'} |" for each in found]
    head = _HEAD.format(done=sum(each.executed for each in found), all=len(found))
    return head + "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(operator_table(), end="")
