"""The registry of upload modes, and that no other module compares their names."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import mindfl
from mindfl.modes import ANNOUNCED, MODES, NAMES, UPLOAD_TYPES
from mindfl.options.mode_options import EncryptType, UploadCompressType

PACKAGE = Path(mindfl.__file__).parent
#: attributes and variables that hold the name of a mode or of its compression
HOLDERS = {"encrypt_type", "upload_compress_type", "upload_compression"}
TEXTS = {*NAMES, *UPLOAD_TYPES}


def names_mode(node: ast.expr) -> bool:
    """Say whether an operand is the name of a mode or of its compression, or holds one."""
    if isinstance(node, ast.Constant):
        return node.value in TEXTS
    if isinstance(node, ast.Attribute):
        return node.attr in HOLDERS | TEXTS
    if isinstance(node, ast.Name):
        return node.id in HOLDERS
    return any(names_mode(part) for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr))


def comparisons(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield comparisons with names of modes, cases of them, and tables by them; downloads have forms of their own."""
    for node in ast.walk(tree):
        operands: list[ast.expr] = []
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            operands = [node.value]
        elif isinstance(node, ast.Dict):
            operands = [key for key in node.keys if isinstance(key, ast.Constant) and key.value not in HOLDERS]
        if any(map(names_mode, operands)) and "download" not in ast.unparse(node):
            yield node


def test_names_are_compared_in_the_registry_only() -> None:
    found = [
        f"{file.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}: {ast.unparse(node)[:80]}"
        for file in sorted(PACKAGE.rglob("*.py"))
        if PACKAGE / "modes" not in file.parents
        for node in comparisons(ast.parse(file.read_text("utf-8")))
    ]
    assert found == []


def test_a_comparison_is_found() -> None:
    source = """
if config.encrypt_type == PLAIN: pass
if kind in ("DP_ENCRYPT", "SIGNDS"): pass
if request.upload_compress_type != CompressType.NO_COMPRESS: pass
table = {"PW_EXACT": 1}
match kind:
    case "SIGNDS": pass
settings = {"encrypt_type": kind}
fine = config.download_compress_type == "NO_COMPRESS"
mode = MODES[config.encrypt_type]
"""
    assert sorted(node.lineno for node in comparisons(ast.parse(source))) == [2, 3, 4, 5, 7]


def test_the_options_name_all_modes() -> None:
    assert get_args(EncryptType) == NAMES == tuple(MODES)
    assert get_args(UploadCompressType) == UPLOAD_TYPES
    assert ANNOUNCED == ("PW_EXACT",)
