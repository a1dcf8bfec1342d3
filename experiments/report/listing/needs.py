"""What the source of a method declares: what it needs of a run, the kinds of data it takes."""

import ast
import inspect
import textwrap

from experiments.report.listing.source import Module, UnreadableError, find, targets

ABSTRACT = ("ABC", "Protocol")  # bases that are none of ours


def declared(cls: ast.ClassDef, name: str) -> list[tuple[str, ...]]:
    """Returns the words that a class declares under a name, and where its fields decide, each case.

    An empty list: it declares nothing.
    """
    found = []
    for node in cls.body:
        if isinstance(node, ast.AnnAssign | ast.Assign) and name in targets(node):
            found.append(node.value)
        if isinstance(node, ast.FunctionDef) and node.name == name:
            returns = [r for r in ast.walk(node) if isinstance(r, ast.Return)]
            for statement in returns:
                found += _either(statement.value)
    cases = []
    for value in found:
        try:
            cases.append(tuple(ast.literal_eval(value)))  # type: ignore[arg-type]
        except (ValueError, TypeError) as error:
            raise UnreadableError(f"{name} of {cls.name}") from error
    return cases


def _either(value: ast.expr | None) -> list[ast.expr]:
    """Returns the values that an expression may have: both of a conditional one."""
    if isinstance(value, ast.IfExp):
        return [*_either(value.body), *_either(value.orelse)]
    return [] if value is None else [value]


def declared_live(cls: type, name: str) -> list[tuple[str, ...]]:
    """Returns the same of a class that is imported; nothing where its source cannot be read."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
        [definition] = tree.body
        assert isinstance(definition, ast.ClassDef)
        return declared(definition, name)
    except (OSError, TypeError, ValueError, SyntaxError, UnreadableError):
        return []


def kinds_of(module: Module, cls: ast.ClassDef) -> list[tuple[str, ...]]:
    """Returns the kinds of data that a class takes, its own or those of a base, case by case.

    An empty list: it declares none, or computes them.
    """
    try:
        found = declared(cls, "kinds")
        bases = [base.id for base in cls.bases if isinstance(base, ast.Name)]
        for base in bases:
            if found or base in ABSTRACT:
                continue
            where, definition = find(module, base)
            if isinstance(definition, ast.ClassDef):
                found = kinds_of(where, definition)
    except UnreadableError:
        return []
    return found


def kinds_of_live(cls: type) -> list[tuple[str, ...]]:
    """Returns the same of a class that is imported."""
    for base in cls.__mro__:
        if "kinds" in vars(base):
            return declared_live(base, "kinds")
    return []
