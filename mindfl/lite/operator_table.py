"""The table of the operators that MindSpore Lite trains with, and whether the runtime has them: ``docs/operators.md``.

``python -m mindfl.lite.operator_table`` prints it.
"""

from __future__ import annotations

from typing import Final

from mindfl.lite.ops import EXECUTED
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


def operator_table() -> str:
    """Return the table as Markdown.

    Example:
        >>> "| 35 | Conv2DFusion | yes |" in operator_table()
        True
    """
    names = {tag: OPERATORS[tag].name for tag in map(int, _TAGS.split())}
    rows = [f"| {tag} | {name} | {'yes' if name in EXECUTED else 'no'} |" for tag, name in names.items()]
    done = sum(name in EXECUTED for name in names.values())
    head = _HEAD.format(done=done, all=len(names))
    return head + "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(operator_table(), end="")
