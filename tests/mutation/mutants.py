"""Small faults for source text: each mutant changes one place of one module.

A mutant is named by what it changes and not by its line, and which ones are drawn follows from a hash of that name: a
change elsewhere in the module neither renames a mutant nor draws others.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

Change: TypeAlias = tuple[str, ast.AST]
"""The kind of a mutation, and what takes the node's place."""

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.MatMult: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr,
}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "sorted": "list"}
#: Fields whose changes say nothing about behaviour.
_NO_BEHAVIOUR = {"annotation", "returns", "decorator_list", "bases"}


@dataclass(frozen=True)
class Mutant:
    """One fault: ``before`` becomes ``after`` within ``function`` of ``module`` (a path from the repository's root).

    ``lines`` are those of the statement that it changes. ``place`` finds the node again: its position in the walk, and
    which of the node's changes it is.
    """

    module: str
    function: str
    kind: str
    before: str
    after: str
    occurrence: int
    lines: range
    place: tuple[int, int]

    @property
    def key(self) -> str:
        """The name that stays the same while other lines change."""
        text = "\0".join((self.module, self.function, self.kind, self.before, self.after, str(self.occurrence)))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def imported(self) -> bool:
        """Whether the statement is executed as the module is imported, whichever test does that."""
        in_class = self.function.rpartition(".")[2].lstrip("_")[:1].isupper()  # and not in one of its methods
        return self.function == "(module)" or in_class or self.before.startswith(("def ", "async def ", "class "))


def find_mutants(module: str, source: str) -> list[Mutant]:
    """Return all mutants of ``source``, in its order."""
    seen: Counter[tuple[str, ...]] = Counter()
    mutants = []
    for position, (node, statement, function) in enumerate(_places(ast.parse(source))):
        for choice, (kind, replacement) in enumerate(_changes(node)):
            before, after = _headline(statement), _headline(_replaced(statement, node, replacement))
            name = (function, kind, before, after)
            lines = range(statement.lineno, _last_line(statement) + 1)
            mutants.append(Mutant(module, *name, seen[name], lines, (position, choice)))
            seen[name] += 1
    return [mutant for mutant in mutants if mutant.before != mutant.after]


def mutate(source: str, mutant: Mutant) -> ast.Module:
    """Return ``source`` with the fault, line numbers unchanged."""
    tree = ast.parse(source)
    position, choice = mutant.place
    node = list(_places(tree))[position][0]
    changed = _replaced(tree, node, list(_changes(node))[choice][1])
    assert isinstance(changed, ast.Module)
    return ast.fix_missing_locations(changed)


def draw(mutants: list[Mutant], share: float) -> list[Mutant]:
    """Return about this share of one module's mutants, at least one; a smaller share is part of a larger one."""
    ranked = sorted(mutants, key=lambda mutant: mutant.key)
    return ranked[: math.ceil(share * len(ranked))]


def _places(tree: ast.Module) -> Iterator[tuple[ast.AST, ast.stmt, str]]:
    """Yield what may be changed, with its statement and its function."""

    def walk(node: ast.AST, statement: ast.stmt | None, function: str) -> Iterator[tuple[ast.AST, ast.stmt, str]]:
        if _has_no_behaviour(node):
            return
        if isinstance(node, ast.stmt):
            statement = node
        if statement is not None:
            yield node, statement, function or "(module)"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            function = f"{function}.{node.name}" if function else node.name
        for field, value in ast.iter_fields(node):
            if field not in _NO_BEHAVIOUR:
                for child in value if isinstance(value, list) else [value]:
                    if isinstance(child, ast.AST):
                        yield from walk(child, statement, function)

    return walk(tree, None, "")


def _has_no_behaviour(node: ast.AST) -> bool:
    """Imports, docstrings, and what only a type checker reads."""
    match node:
        case ast.Import() | ast.ImportFrom() | ast.Expr(value=ast.Constant()):
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")) | ast.AnnAssign(annotation=ast.Name(id="TypeAlias")):
            return True
    return False


def _changes(node: ast.AST) -> Iterator[Change]:
    for kind, find in _FINDERS.items():
        for replacement in find(node):
            yield kind, replacement


def _comparisons(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Compare):
        for position, operator in enumerate(node.ops):
            for other in COMPARISONS[type(operator)]:
                ops = [*node.ops[:position], other(), *node.ops[position + 1 :]]
                yield ast.Compare(node.left, ops, node.comparators)


def _arithmetic(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.BinOp) and not (_holds_text(node.left) or _holds_text(node.right)):
        yield ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right)
    elif isinstance(node, ast.AugAssign):
        yield ast.AugAssign(node.target, ARITHMETIC[type(node.op)](), node.value)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield node.operand


def _holds_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))


def _constants(node: ast.AST) -> Iterator[ast.AST]:
    if not isinstance(node, ast.Constant):
        return
    if isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node.value, int):
        yield ast.Constant(node.value + 1)
        yield ast.Constant(node.value - 1)
    elif isinstance(node.value, float):
        yield ast.Constant(node.value * 2 if node.value else 1.0)


def _conditions(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand
    elif isinstance(node, ast.If | ast.IfExp | ast.While) and isinstance(
        node.test, ast.Name | ast.Attribute | ast.Call
    ):
        negated = copy.copy(node)
        negated.test = ast.UnaryOp(ast.Not(), node.test)
        yield negated


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    dropped = (
        isinstance(node, ast.Raise | ast.AugAssign | ast.Continue | ast.Break | ast.Delete)
        or (isinstance(node, ast.Return) and node.value is None)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
        or (isinstance(node, ast.Assign) and all(isinstance(target, ast.Attribute) for target in node.targets))
    )
    if dropped:
        yield ast.Pass()


def _calls(node: ast.AST) -> Iterator[ast.AST]:
    if not isinstance(node, ast.Call):
        return
    if isinstance(node.func, ast.Name) and node.func.id in NAMES:
        # list() has neither key nor reverse.
        keywords = [] if node.func.id == "sorted" else node.keywords
        yield ast.Call(ast.Name(NAMES[node.func.id], ast.Load()), node.args, keywords)
    commutative = isinstance(node.func, ast.Name) and node.func.id in ("min", "max")
    if (
        not commutative
        and len(node.args) >= 2
        and not any(isinstance(argument, ast.Starred) for argument in node.args[:2])
    ):
        yield ast.Call(node.func, [node.args[1], node.args[0], *node.args[2:]], node.keywords)
    for position, keyword in enumerate(node.keywords):
        if keyword.arg is not None:
            yield ast.Call(node.func, node.args, [*node.keywords[:position], *node.keywords[position + 1 :]])


_FINDERS: dict[str, Callable[[ast.AST], Iterator[ast.AST]]] = {
    "comparison": _comparisons,
    "arithmetic": _arithmetic,
    "constant": _constants,
    "condition": _conditions,
    "statement": _statements,
    "call": _calls,
}


class _Replace(ast.NodeTransformer):
    def __init__(self, node: ast.AST, replacement: ast.AST) -> None:
        self._node, self._replacement = node, replacement

    def visit(self, node: ast.AST) -> ast.AST:
        if node is self._node:
            return ast.copy_location(self._replacement, node)
        return super().generic_visit(node)


def _replaced(root: ast.AST, node: ast.AST, replacement: ast.AST) -> ast.AST:
    """Return a copy of ``root`` with ``replacement``; ``root`` itself stays as it is."""
    memo: dict[int, ast.AST] = {}
    copied = copy.deepcopy(root, memo)
    target = memo[id(node)]
    # The replacement shares children with the original, which are left alone.
    return _Replace(target, copy.deepcopy(replacement)).visit(copied)


def _headline(node: ast.AST) -> str:
    """Return a simple statement, or the first line of one that holds others."""
    text = ast.unparse(ast.fix_missing_locations(copy.deepcopy(node)))
    return text.split("\n", 1)[0] if hasattr(node, "body") else text


def _last_line(statement: ast.stmt) -> int:
    body = getattr(statement, "body", None)
    if body:
        return max(statement.lineno, body[0].lineno - 1)
    return statement.end_lineno or statement.lineno
