"""What stands behind names from outside the package: a digest of the code, and of data sets.

A name alone does not tell what a cell computes: the code behind `module:Class` may be edited
between two runs. The digest of a module is that of its source and of those files of its folder that
it imports, directly or not. Built-in code is told by the released version: no commit makes a new
cell.
"""

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from poisonbench.data import DATASETS, KIND_OF, load
from poisonbench.losses import function_of
from poisonbench.models import MODELS
from poisonbench.poison_file import fingerprint
from poisonbench.registry import lookup
from poisonbench.training import Recipe

OURS = ("poisonbench", "attacks", "estimators", "defenses", "experiments")
# which configurations do not name: their identities are older than this rule
FIRST_VERSION = "0.1.0"


def code_of(thing: object, target: str = "") -> str:
    """Returns the sha256 of the code behind a class or function; "" where it is built in.

    Args:
        thing: the class or function.
        target: "package.module:name" by which it was found: that module counts too.
    """
    modules = [str(getattr(thing, "__module__", "") or "")]
    if ":" in target:
        modules.append(target.partition(":")[0])
    found = []
    for name in dict.fromkeys(modules):
        module = sys.modules.get(name)
        if module is not None and name.partition(".")[0] not in OURS:
            found.append(_code_of_module(module))
    return joined(found)


def joined(digests: Iterable[str]) -> str:
    """Returns one digest of several, "" of none; empty ones do not count."""
    told = [digest for digest in digests if digest]
    if len(told) < 2:
        return "".join(told)
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def code_of_models(value: object) -> str:
    """Returns the sha256 of the code of all models and loops that recipes name, "" if ours."""
    if isinstance(value, Recipe):
        model = code_of(lookup(MODELS, value.model, "model"), value.model)
        loop = code_of(value.loop, value.train or "")
        loss = code_of_loss(value.loss)
        return joined([model, loop, loss, *_files_named(value.model_args)])
    if not is_dataclass(value):
        return ""
    return joined(code_of_models(getattr(value, field.name)) for field in fields(value))


def code_of_loss(name: str) -> str:
    """Returns the sha256 of the code of a loss, "" where it is built in."""
    return code_of(function_of(name), name) if ":" in name else ""


def _files_named(arguments: Mapping[str, Any]) -> list[str]:
    """The digests of the files that a model's arguments name, such as those of its weights."""
    texts = [value for value in arguments.values() if isinstance(value, str)]
    return [digest_of_file(text) for text in texts if Path(text).is_file()]


def unsaved(module: nn.Module) -> str:
    """Returns the sha256 of the tensors that a model holds beside its state, "" without any.

    Those are buffers that are not saved, and tensors that are plain attributes: they may come from
    a file that the model's code reads.
    """
    total = hashlib.sha256()
    some = False
    for path, part in module.named_modules():
        held = {
            name: part.get_buffer(name) for name in part._non_persistent_buffers_set
        }
        held |= {n: v for n, v in vars(part).items() if isinstance(v, Tensor)}
        for name, value in sorted(held.items()):
            some = True
            plain = value.detach().cpu().contiguous()
            total.update(f"{path}.{name} {plain.dtype} {tuple(plain.shape)}".encode())
            total.update(plain.view(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest() if some else ""


@dataclass(frozen=True)
class DataFacts:
    """What a grid must know of a data set.

    Attributes:
        kind: of its instances.
        sha256: of the training and test set, None where the data set is built in.
    """

    kind: str
    sha256: str | None = None


def data_facts(name: str, root: Path | None, download: bool) -> DataFacts:
    """Returns the facts of a data set; one from outside is loaded for them.

    Raises:
        DataError: see `poisonbench.data.load`.
    """
    if name in DATASETS:
        return DataFacts(KIND_OF[name])
    parts = load(name, root, download)
    digests = [fingerprint(part) for part in parts]
    return DataFacts(str(parts[0].kind), joined(digests))


def digest_of_file(path: str) -> str:
    """Returns the sha256 of a file; raises ValueError where it cannot be read."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        what = error.strerror or error
        raise ValueError(f"state {path!r} in {Path.cwd()}: {what}") from error
    return hashlib.sha256(content).hexdigest()


@cache
def released_version() -> str:
    """Returns the version of the package, without what marks a development copy; "" if unknown."""
    try:
        version = metadata.version("poisonbench")
    except metadata.PackageNotFoundError:  # run from a source tree
        return ""
    return version.partition("+")[0].partition(".dev")[0]


def version_mark() -> dict[str, str]:
    """Returns what a configuration tells of the version: nothing in the first one."""
    version = released_version()
    return {} if version in ("", FIRST_VERSION) else {"version": version}


@cache
def _code_of_module(module: ModuleType) -> str:
    """The digest of a module with the files that it imports; taken once, soon after its import."""
    path = getattr(module, "__file__", None)
    if path is None or not path.endswith(".py"):
        return ""
    start = Path(path)
    found: set[Path] = set()
    pending = [start]
    while pending:
        file = pending.pop()
        if file not in found:
            found.add(file)
            pending += _imported_beside(file)
    total = hashlib.sha256()
    for file in sorted(found):
        content = file.read_bytes()
        total.update(f"{file.relative_to(start.parent)} {len(content)}\n".encode())
        total.update(content)
    return total.hexdigest()


def _imported_beside(file: Path) -> Iterator[Path]:
    """The files in the folder of `file`, or below it, whose names its imports name."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        for name in _names_of(node):
            parts = name.split(".")
            for first in range(len(parts)):
                place = file.parent.joinpath(*parts[first:])
                for candidate in (place.with_suffix(".py"), place / "__init__.py"):
                    if candidate.is_file():
                        yield candidate


def _names_of(node: ast.AST) -> Iterator[str]:
    """The dotted names that an import statement may mean; relative ones from the folder on."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            yield f"{node.module}.{alias.name}" if node.module else alias.name
        if node.module:
            yield node.module
