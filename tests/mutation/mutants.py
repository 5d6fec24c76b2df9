"""Mutants of a module: its source with one small change each, such as a slip of the pen would make.

Every expression counts, in functions, in module-level tables and in the defaults of Structs; of a pattern
(a text in a private constant) every single character. Left alone: annotations, decorators, docstrings,
`assert_never` and what only type checkers read.
"""

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

SKIPPED_FIELDS = {"annotation", "returns", "decorator_list", "cause", "ctx"}
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
ARITHMETIC: dict[type[ast.operator], ast.operator] = {
    ast.Add: ast.Sub(),
    ast.Sub: ast.Add(),
    ast.Mult: ast.Div(),
    ast.Div: ast.Mult(),
}
NAMES = {"any": "all", "all": "any", "min": "max", "max": "min", "sorted": "list"}
Enums = dict[str, list[str]]


class Mutant(NamedTuple):
    """One change: its name, the same wherever the lines move to, and what it compiles to."""

    name: str
    line: int
    code: CodeType


def enums(root: Path) -> Enums:
    """Members of every enum of the project, by the enum's name."""
    found: Enums = {}
    for path in [*root.glob("services/**/*.py"), *root.glob("shared/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and any("Enum" in ast.unparse(base) for base in node.bases):
                found[node.name] = [
                    each.targets[0].id
                    for each in node.body
                    if isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Name)
                ]
    return found


def mutants(path: Path, known: Enums) -> Iterator[Mutant]:
    """All mutants of the module at `path`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    seen: Counter[str] = Counter()
    for parent, field, index, scope in list(_places(tree, "")):
        held = getattr(parent, field)
        node = held if index is None else held[index]
        for changed in _changes(node, known, is_pattern=_is_private_constant(scope)):
            name = f"{scope}: {_difference(node, changed)}"
            seen[name] += 1
            _put(parent, field, index, changed)
            code = compile(ast.fix_missing_locations(tree), str(path), "exec")
            _put(parent, field, index, node)
            line = getattr(node, "lineno", getattr(parent, "lineno", 0))
            yield Mutant(name if seen[name] == 1 else f"{name} ({seen[name]})", line, code)


def _difference(node: ast.AST, changed: ast.AST) -> str:
    match node, changed:
        case ast.Constant(str(before)), ast.Constant(str(after)) if len(after) == len(before) - 1:
            lost = next(
                (i for i, (one, other) in enumerate(zip(before, after, strict=False)) if one != other),
                len(after),
            )
            return f"{before[max(0, lost - 20) : lost]}⟦{before[lost]}⟧{before[lost + 1 : lost + 20]}"
        case ast.If(test=test), ast.If(test=other):
            return f"if {ast.unparse(test)} → if {ast.unparse(other)}"
        case _:
            pass
    return " → ".join(" ".join(ast.unparse(each).split()) for each in (node, changed))


Place = tuple[ast.AST, str, int | None, str]


def _places(node: ast.AST, scope: str) -> Iterator[Place]:
    """Where something can be changed, with the function or constant it belongs to."""
    for field, value in ast.iter_fields(node):
        if field in SKIPPED_FIELDS or (isinstance(node, ast.ClassDef) and field in ("keywords", "bases")):
            continue
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.AST) or _is_left_alone(child):
                continue
            inner = scope
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                inner = f"{scope}.{child.name}" if scope else f"{child.name}()"
            elif not scope and isinstance(child, ast.Assign | ast.AnnAssign):
                target = child.target if isinstance(child, ast.AnnAssign) else child.targets[0]
                inner = ast.unparse(target)
            yield node, field, index, inner
            yield from _places(child, inner)


def _is_private_constant(scope: str) -> bool:
    return scope.startswith("_") and "(" not in scope


def _is_left_alone(node: ast.AST) -> bool:
    if not isinstance(node, ast.Expr):
        return isinstance(node, ast.Import | ast.ImportFrom)
    return isinstance(node.value, ast.Constant) or ast.unparse(node).startswith("assert_never(")


def _put(parent: ast.AST, field: str, index: int | None, node: ast.AST) -> None:
    if index is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[index] = node


def _with(node: ast.AST, **fields: Any) -> ast.AST:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _without_each(items: list[Any], least: int = 1) -> Iterator[list[Any]]:
    if len(items) > least:
        for index in range(len(items)):
            yield items[:index] + items[index + 1 :]


def _changes(node: ast.AST, known: Enums, *, is_pattern: bool) -> Iterator[ast.AST]:
    match node:
        case ast.Constant():
            yield from (ast.Constant(value) for value in _constants(node.value, is_pattern=is_pattern))
        case ast.Attribute(value=ast.Name(id=enum), attr=member) if member in known.get(enum, ()):
            members = known[enum]
            yield _with(node, attr=members[(members.index(member) + 1) % len(members)])
        case ast.Name(id=name) if name in NAMES:
            yield _with(node, id=NAMES[name])
        case ast.stmt():
            yield from _statements(node)
        case ast.MatchOr() | ast.ExceptHandler() | ast.comprehension():
            yield from _clauses(node)
        case ast.Tuple(ctx=ast.Load()) | ast.List(ctx=ast.Load()) | ast.Set() | ast.Dict() | ast.JoinedStr():
            yield from _literals(node)
        case ast.expr():
            yield from _expressions(node)
        case _:
            pass


def _constants(value: Any, *, is_pattern: bool) -> Iterator[Any]:
    match value:
        case bool():
            yield not value
        case int() | float():
            yield value + 1
            yield value - 1
        case str() if is_pattern:
            yield from dict.fromkeys(value[:index] + value[index + 1 :] for index in range(len(value)))
        case str():
            yield f"XX{value}"
            if value:
                yield ""
        case _:
            pass


def _statements(node: ast.stmt) -> Iterator[ast.AST]:
    match node:
        case (
            ast.Expr(value=ast.Call()) | ast.Raise() | ast.Assign(targets=[ast.Attribute() | ast.Subscript()])
        ):
            yield ast.Pass()
        case ast.AugAssign():
            yield ast.Pass()
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield ast.Return(None)
        case ast.If():
            yield from (_with(node, test=ast.Constant(value)) for value in (True, False))
        case ast.For():
            yield _with(node, iter=ast.Tuple([], ast.Load()))
        case ast.Match():
            yield from (_with(node, cases=cases) for cases in _without_each(node.cases))
        case _:
            pass


def _clauses(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.MatchOr():
            for patterns in _without_each(node.patterns):
                yield _with(node, patterns=patterns) if len(patterns) > 1 else patterns[0]
        case ast.ExceptHandler():
            yield _with(node, type=ast.Name("ZeroDivisionError", ast.Load()))
        case ast.comprehension():
            yield from (_with(node, ifs=ifs) for ifs in _without_each(node.ifs, 0))
        case _:
            pass


def _expressions(node: ast.expr) -> Iterator[ast.AST]:
    match node:
        case ast.Compare(ops=[operator], comparators=[_]):
            yield from (_with(node, ops=[other()]) for other in COMPARISONS[type(operator)])
        case ast.BoolOp():
            yield _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
            for values in _without_each(node.values):
                yield _with(node, values=values) if len(values) > 1 else values[0]
        case ast.UnaryOp():
            yield node.operand
        case ast.BinOp() if type(node.op) in ARITHMETIC:
            yield _with(node, op=ARITHMETIC[type(node.op)])
        case ast.IfExp():
            yield from (node.body, node.orelse)
        case ast.Call():
            yield from _calls(node)
        case _:
            pass


def _literals(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Tuple(ctx=ast.Load()) | ast.List(ctx=ast.Load()) | ast.Set():
            yield from (_with(node, elts=elements) for elements in _without_each(node.elts))
        case ast.Dict():
            for index in range(len(node.keys)):
                keys, values = list(node.keys), list(node.values)
                del keys[index], values[index]
                yield _with(node, keys=keys, values=values)
        case ast.JoinedStr():
            yield from (_with(node, values=values) for values in _without_each(node.values))
        case _:
            pass


def _calls(node: ast.Call) -> Iterator[ast.AST]:
    yield from (_with(node, keywords=keywords) for keywords in _without_each(node.keywords, 0))
    for index, argument in enumerate(node.args):
        if isinstance(argument, ast.Constant) and argument.value is None:
            continue
        args = list(node.args)
        args[index] = ast.Constant(None)
        yield _with(node, args=args)
    if isinstance(node.func, ast.Attribute) and not node.keywords:
        yield node.func.value  # `text.lower()` → `text`
