"""What the source of a table of methods says, read without importing it: most methods import torch.

Only what these files need is understood: tables with literal keys, imports by name, dataclasses
with plain defaults. Whatever is written otherwise is `UnreadableError`; its reader imports it
instead.
"""

import ast
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]  # the folder of our packages
OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}

Definition = ast.ClassDef | ast.FunctionDef


class UnreadableError(Exception):
    """The source says it in a way that is not understood here."""


class Required:
    """Stands for the default of a field that has none."""


REQUIRED = Required()


@dataclass(frozen=True, eq=False)
class Module:
    """The source of a module.

    Attributes:
        name: dotted.
        tree: its syntax.
    """

    name: str
    tree: ast.Module

    @property
    def head(self) -> str:
        """The docstring."""
        return ast.get_docstring(self.tree) or ""

    def assigned(self, name: str) -> ast.expr | None:
        """Returns what is assigned to a name, None if nothing is."""
        for node in self.tree.body:
            if isinstance(node, ast.AnnAssign | ast.Assign) and name in targets(node):
                return node.value
        return None

    def defined(self, name: str) -> Definition | None:
        """Returns the class or function of a name, None if there is none."""
        for node in self.tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
                return node
        return None

    def imported(self, name: str) -> tuple[str, str] | None:
        """Returns the module and the name there of what is imported as `name`."""
        for node in self.tree.body:
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if name == (alias.asname or alias.name):
                        return node.module or "", alias.name
        return None


def targets(node: ast.AnnAssign | ast.Assign) -> list[str]:
    """Returns the names to which a statement assigns."""
    assigned = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
    return [target.id for target in assigned if isinstance(target, ast.Name)]


@cache
def read_module(name: str) -> Module:
    """Returns the source of a module of ours.

    Raises:
        UnreadableError: there is none.
    """
    stem = ROOT.joinpath(*name.split("."))
    for path in (stem.with_suffix(".py"), stem / "__init__.py"):
        if path.is_file():
            return Module(name, ast.parse(path.read_text(encoding="utf-8")))
    raise UnreadableError(f"{name} is no module of ours")


def read_table(target: str) -> dict[str, tuple[Module, ast.expr]]:
    """Returns the entries of a table "module:NAME": for each its module and expression."""
    module_name, _, name = target.partition(":")
    module = read_module(module_name)
    value = module.assigned(name)
    if value is None:
        source = module.imported(name)
        if source is None:
            raise UnreadableError(f"{target} is not defined")
        return read_table(":".join(source))
    if not isinstance(value, ast.Dict):
        raise UnreadableError(f"{target} is no table")
    entries = {}
    for key, entry in zip(value.keys, value.values, strict=True):
        if not isinstance(key, ast.Constant):
            raise UnreadableError(f"{target} has keys that are no texts")
        entries[str(key.value)] = (module, entry)
    return entries


def find(module: Module, name: str) -> tuple[Module, Definition]:
    """Returns the class or function that a name of a module stands for, and where it is defined."""
    definition = module.defined(name)
    if definition is not None:
        return module, definition
    source = module.imported(name)
    if source is None:
        raise UnreadableError(f"{name} of {module.name} is not defined")
    return find(read_module(source[0]), source[1])


def fields_of(module: Module, cls: ast.ClassDef) -> dict[str, object]:
    """Returns the fields of a dataclass with their defaults, those of its bases first."""
    found: dict[str, object] = {}
    for base in cls.bases:
        if not isinstance(base, ast.Name):
            raise UnreadableError(f"{cls.name} has a base that is no name")
        if base.id in ("ABC", "Protocol"):
            continue
        where, definition = find(module, base.id)
        if isinstance(definition, ast.ClassDef):
            found |= fields_of(where, definition)
    decorators = [ast.unparse(decorator) for decorator in cls.decorator_list]
    if not any("dataclass" in decorator for decorator in decorators):
        return found  # what it annotates are no fields
    for name, default in _own_fields(cls):
        if default is None:
            found[name] = REQUIRED
        else:
            found[name] = value_of(module, default)
    return found


def is_marked(cls: ast.ClassDef, mark: str) -> bool:
    """Returns whether a class has the attribute `mark = True` of its own."""
    for node in cls.body:
        if isinstance(node, ast.Assign) and mark in targets(node):
            return isinstance(node.value, ast.Constant) and node.value.value is True
    return False


def _own_fields(cls: ast.ClassDef) -> Iterator[tuple[str, ast.expr | None]]:
    for node in cls.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            hint = ast.unparse(node.annotation).strip("'\"")
            if "KW_ONLY" in hint or "InitVar" in hint:
                raise UnreadableError(
                    f"{cls.name}.{node.target.id} is of a kind not known here"
                )
            if not hint.startswith(("ClassVar", "typing.ClassVar")):
                yield node.target.id, node.value


def value_of(module: Module, node: ast.expr) -> object:
    """Returns the value of an expression of literals, arithmetic and constants of a module."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Tuple):
        return tuple(value_of(module, entry) for entry in node.elts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return operator.neg(value_of(module, node.operand))  # type: ignore[arg-type]
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        left = value_of(module, node.left)
        return OPERATORS[type(node.op)](left, value_of(module, node.right))
    if isinstance(node, ast.Name):
        return _constant(module, node.id)
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "field":
        return _field_default(module, node)
    if isinstance(node, ast.Dict) and None not in node.keys:
        return _dict(module, node)
    if isinstance(node, ast.Call) and [type(entry) for entry in node.args] == [
        ast.Dict
    ]:
        return value_of(module, node.args[0])  # a class of tables: what it is made of
    raise UnreadableError(ast.unparse(node))


def _dict(module: Module, node: ast.Dict) -> dict[object, object]:
    keys = [value_of(module, key) for key in node.keys if key is not None]
    values = [value_of(module, value) for value in node.values]
    return dict(zip(keys, values, strict=True))


def _constant(module: Module, name: str) -> object:
    value = module.assigned(name)
    if value is not None:
        return value_of(module, value)
    source = module.imported(name)
    if source is None:
        raise UnreadableError(f"{name} of {module.name} is not defined")
    return _constant(read_module(source[0]), source[1])


def _field_default(module: Module, call: ast.Call) -> object:
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if "default_factory" in given:
        raise UnreadableError("a default that a function makes")
    if "default" not in given:
        return REQUIRED
    return value_of(module, given["default"])
