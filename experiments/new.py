"""New methods from templates: a file that runs at once, its test, and a grid.

Inside the tree: the file alone, and what is to be added where.
"""

import importlib.util
import keyword
import re
import shlex
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from string import Template

import attacks
import defenses
import estimators
from experiments.plan.methods import TABLES
from poisonbench.errors import ConfigError

TEMPLATES = Path(__file__).parent / "templates"
PACKAGES = {"attack": attacks, "estimator": estimators, "detector": defenses}
DEFAULTS = {"estimator": "gas", "detector": "tail-heaviness"}
TESTS = {
    "attack": "tests/test_attacks.py",
    "estimator": "tests/test_estimators.py",
    "detector": "tests/test_defenses.py",
}
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LONGEST = 60  # letters of a name


@dataclass(frozen=True)
class Names:
    """The names of a new method: `my-attack`, `my_attack`, `MyAttack`, "My attack"."""

    kind: str
    name: str

    @property
    def module(self) -> str:
        """Of its file."""
        return self.name.replace("-", "_")

    @property
    def cls(self) -> str:
        """Of its class."""
        return "".join(part.capitalize() for part in self.name.split("-"))

    @property
    def target(self) -> str:
        """By which a grid outside the tree names it."""
        return f"{self.module}:{self.cls}"

    @property
    def title(self) -> str:
        """At the head of its file."""
        return self.name.replace("-", " ").capitalize()

    def check(self, folder: Path) -> None:
        """Refuses names that no file or class can have, and those that stand for something else.

        Raises:
            ConfigError: naming the rule and the name.
        """
        if not NAME.fullmatch(self.name) or len(self.name) > LONGEST:
            what = (
                "must be lower-case words with single hyphens between them, "
                f"at most {LONGEST} letters in all"
            )
            raise ConfigError(
                [f"the name {what}, got {self.name!r}"], "for example: corner-glow"
            )
        if keyword.iskeyword(self.module) or keyword.iskeyword(self.cls):
            raise ConfigError(
                [f"{self.name!r} is a word of Python's own"],
                "choose another name, for example corner-glow",
            )
        if self.name in TABLES[self.kind]:
            raise ConfigError(
                [f"there is {self.kind} {self.name!r} already"],
                f"see it: poisonbench list {self.kind}s",
            )
        if self.module in sys.stdlib_module_names or self._clashes(folder):
            what = f"{self.module}.py would clash with the module {self.module!r}"
            raise ConfigError(
                [f"{what}, which is installed here"],
                f"choose another name, for example {self.name}-{self.kind}",
            )

    def _clashes(self, folder: Path) -> bool:
        """Whether another folder has a module of that name."""
        found = importlib.util.find_spec(self.module)
        if found is None:
            return False
        if found.origin is None:
            return True
        return Path(found.origin).resolve().parent != folder.resolve()


def new(kind: str, name: str, folder: Path, data: str = "image") -> str:
    """Writes the files of a new method and returns what was written and what to do next.

    Args:
        kind: "attack", "estimator" or "detector".
        name: kebab-case.
        data: a key of `poisonbench.data.KINDS`, that an attack poisons and the grid is of.
        folder: where; the folder of the built-in methods of that kind gets the method alone.

    Raises:
        ConfigError: the name is none, or is taken, or a file is there already; nothing is written.
    """
    names = Names(kind, name)
    names.check(folder)
    package = PACKAGES[kind]
    home = Path(str(package.__file__)).resolve().parent
    inside = folder.resolve() == home
    files = _files(names, folder, inside, data)
    there = [f"{file} is there already" for file in files if file.exists()]
    if there:
        raise ConfigError(there, "choose another name or --folder")
    _write(files, folder)
    wrote = [f"wrote {file}" for file in files]
    steps = _inside(names, package.__name__) if inside else _outside(names, folder)
    return "\n".join([*wrote, "", steps])


def _files(names: Names, folder: Path, inside: bool, data: str) -> dict[Path, str]:
    """The texts of a method's files by their places; outside the tree, its test and grid too."""
    of_data = tomllib.loads((TEMPLATES / "data.toml").read_text(encoding="utf-8"))
    words = {
        **DEFAULTS,
        **of_data[data],
        "kind": names.kind,
        "name": names.name,
        "module": names.module,
        "cls": names.cls,
        "title": names.title,
        "target": names.target,
        names.kind: names.target,
    }
    templates = {f"{names.module}.py": f"{names.kind}.py.txt"}
    if not inside:
        templates[f"test_{names.module}.py"] = "test.py.txt"
        templates[f"{names.module}.toml"] = "grid.toml.txt"
    return {
        folder / file: _filled(template, words) for file, template in templates.items()
    }


def _filled(template: str, words: dict[str, str]) -> str:
    return Template((TEMPLATES / template).read_text(encoding="utf-8")).substitute(
        words
    )


def _write(files: dict[Path, str], folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            with file.open("x", encoding="utf-8") as out:
                out.write(text)
    except OSError as error:
        raise ConfigError(
            [f"{error.filename}: {error.strerror}"],
            "name a folder that can be written: --folder DIR",
        ) from error


def _outside(names: Names, folder: Path) -> str:
    """The commands that come next, each with its reason."""
    module = names.module
    steps = {
        f"$EDITOR {module}.py": "what it does, and its paper",
        f"poisonbench check {names.kind} {names.target}": "every rule of the contract",
        f"python -m pytest test_{module}.py": "the same as a test",
        f"poisonbench run {module}.toml -o {module}-logs": "a grid against the control",
        f"poisonbench evaluate {module}-logs": "what came of it",
    }
    if folder.resolve() != Path.cwd():
        go = f"cd {shlex.quote(str(folder))}"
        steps = {go: "a module is found from its own folder", **steps}
    width = max(map(len, steps))
    lines = [f"  {command:{width}}  # {why}" for command, why in steps.items()]
    return "\n".join(["next:", *lines])


def _inside(names: Names, package: str) -> str:
    """The lines to add to the tree."""
    return "\n".join(
        [
            "next:",
            f"  {package}/__init__.py: from {package}.{names.module} import {names.cls}",
            f'  {package}/__init__.py, in the table: "{names.name}": {names.cls},',
            f"  {TESTS[names.kind]}, a row of ROWS: {names.cls}(),",
            f"  poisonbench check {names.kind} {names.name}",
        ]
    )
