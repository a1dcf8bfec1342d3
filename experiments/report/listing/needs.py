"""What the source of an estimator declares to need of a run."""

import ast
import inspect
import textwrap

from experiments.report.listing.source import UnreadableError, targets


def needs_of(cls: ast.ClassDef) -> list[tuple[str, ...]]:
    """Returns what an estimator declares to need of a run, and where its fields decide, each case.

    An empty list: it declares nothing.
    """
    found = []
    for node in cls.body:
        if isinstance(node, ast.AnnAssign | ast.Assign) and "needs" in targets(node):
            found.append(node.value)
        if isinstance(node, ast.FunctionDef) and node.name == "needs":
            returns = [r for r in ast.walk(node) if isinstance(r, ast.Return)]
            found += [statement.value for statement in returns]
    cases = []
    for value in found:
        try:
            cases.append(tuple(ast.literal_eval(value)))  # type: ignore[arg-type]
        except (ValueError, TypeError) as error:
            raise UnreadableError(f"needs of {cls.name}") from error
    return cases


def declared_needs(cls: type) -> list[tuple[str, ...]]:
    """Returns the same of a class that is imported; nothing where its source cannot be read."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
        [definition] = tree.body
        assert isinstance(definition, ast.ClassDef)
        return needs_of(definition)
    except (OSError, TypeError, ValueError, SyntaxError, UnreadableError):
        return []
