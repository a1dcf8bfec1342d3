"""The keys of the tables of a grid file that are no methods, read from source: no torch."""

import ast
import re
from dataclasses import dataclass

from experiments.report.listing.source import (
    Module,
    UnreadableError,
    fields_of,
    find,
    read_module,
)

# table of a grid file -> the dataclass that its keys are fields of
TABLES = {
    "dataset": "experiments.plan.tables.data:DataSpec",
    "recipe": "poisonbench.training.recipe:Recipe",
    "transfer": "experiments.plan.spec:TransferSpec",
    "probe": "experiments.plan.spec:ProbeSpec",
}


@dataclass(frozen=True)
class Key:
    """A key of a table.

    Attributes:
        default: its value where the table lacks it.
        about: what it means.
    """

    default: object
    about: str


def keys_of(title: str) -> dict[str, Key]:
    """Returns the keys of a table that a grid file may set, in their order."""
    module_name, _, name = TABLES[title].partition(":")
    module, cls = find(read_module(module_name), name)
    if not isinstance(cls, ast.ClassDef):
        raise UnreadableError(name)
    about = attributes(ast.get_docstring(cls) or "")
    found = {}
    for field, default in fields_of(module, cls).items():
        if _is_settable(module, cls, field):
            found[field] = Key(default, about[field])
    return found


def attributes(text: str) -> dict[str, str]:
    """Returns what a docstring says of each attribute, each in one line."""
    _, _, section = text.partition("Attributes:\n")
    section, _, _ = section.partition("\n\n")
    found: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        start = re.match(r" {4}(\w+): (.*)", line)
        if start:
            name = start[1]
            found[name] = start[2]
        else:
            found[name] += f" {line.strip()}"
    return found


def _is_settable(module: Module, cls: ast.ClassDef, name: str) -> bool:
    """Whether a grid file may set a field: it says otherwise in its own definition."""
    for node in cls.body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == name:
            text = _definition(module, node.value)
            return "'settable': False" not in text and "init=False" not in text
    return True


def _definition(module: Module, value: ast.expr | None) -> str:
    """Returns the source of a field's default, and of what its metadata are named by."""
    if not isinstance(value, ast.Call):
        return ""
    text = ast.unparse(value)
    for keyword in value.keywords:
        if keyword.arg == "metadata" and isinstance(keyword.value, ast.Name):
            named = module.assigned(keyword.value.id)
            text += "" if named is None else ast.unparse(named)
    return text
