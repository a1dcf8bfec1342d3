"""New methods from templates: a file that runs at once, its test, and a grid; or, inside the tree, what is to be added where."""

import importlib.util
import keyword
import re
import shlex
import sys
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
DEFAULTS = {"attack": "patch", "estimator": "gas", "detector": "tail-heaviness"}
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


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
    def title(self) -> str:
        """At the head of its file."""
        return self.name.replace("-", " ").capitalize()

    def check(self, folder: Path) -> None:
        """Refuses names that no file or class can have, and those that stand for something else.

        Raises:
            ConfigError: naming the rule and the name.
        """
        if not NAME.fullmatch(self.name) or len(self.name) > 60:
            what = "must be lower-case words with single hyphens between them, at most 60 letters in all"
            raise ConfigError([f"the name {what}, got {self.name!r}"], "for example: corner-glow")
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
        if self.module in sys.stdlib_module_names or self._shadows(folder):
            what = f"{self.module}.py would clash with the module {self.module!r}, which is installed here"
            raise ConfigError([what], f"choose another name, for example {self.name}-{self.kind}")

    def _shadows(self, folder: Path) -> bool:
        found = importlib.util.find_spec(self.module)
        return found is not None and (
            found.origin is None or Path(found.origin).resolve().parent != folder.resolve()
        )


def new(kind: str, name: str, folder: Path) -> str:
    """Writes the files of a new method and returns what was written and what to do next.

    Args:
        kind: "attack", "estimator" or "detector".
        name: kebab-case.
        folder: where; the folder of the built-in methods of that kind gets the method alone.

    Raises:
        ConfigError: the name is none, or is taken, or a file is there already; nothing is written.
    """
    names = Names(kind, name)
    names.check(folder)
    package = PACKAGES[kind]
    inside = folder.resolve() == Path(str(package.__file__)).resolve().parent
    target = f"{names.module}:{names.cls}"
    words = {
        "kind": kind,
        "name": name,
        "module": names.module,
        "cls": names.cls,
        "title": names.title,
        "target": target,
    }
    texts = {f"{names.module}.py": f"{kind}.py.txt"}
    if not inside:
        texts |= {f"test_{names.module}.py": "test.py.txt", f"{names.module}.toml": "grid.toml.txt"}
    files = {
        folder / file: _filled(template, {**DEFAULTS, **words, kind: target})
        for file, template in texts.items()
    }
    if there := [str(file) for file in files if file.exists()]:
        raise ConfigError(
            [f"{file} is there already" for file in there],
            "choose another name or --folder",
        )
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
    wrote = "\n".join(f"wrote {file}" for file in files)
    return f"{wrote}\n\n{_inside(names, package.__name__) if inside else _outside(names, target, folder)}"


def _filled(template: str, words: dict[str, str]) -> str:
    return Template((TEMPLATES / template).read_text(encoding="utf-8")).substitute(words)


def _outside(names: Names, target: str, folder: Path) -> str:
    here = (
        []
        if folder.resolve() == Path.cwd()
        else [("cd " + shlex.quote(str(folder)), "a module is found from its own folder")]
    )
    steps = [
        *here,
        (f"$EDITOR {names.module}.py", "what it does, and its paper"),
        (f"poisonbench check {names.kind} {target}", "every rule of the contract"),
        (f"python -m pytest test_{names.module}.py", "the same as a test"),
        (
            f"poisonbench run {names.module}.toml -o {names.module}-logs",
            "a grid against the control",
        ),
        (f"poisonbench evaluate {names.module}-logs", "what came of it"),
    ]
    width = max(len(command) for command, _ in steps)
    return "next:\n" + "\n".join(f"  {command:{width}}  # {why}" for command, why in steps)


def _inside(names: Names, package: str) -> str:
    tests = {
        "attack": "tests/test_attacks.py",
        "estimator": "tests/test_estimators.py",
        "detector": "tests/test_defenses.py",
    }
    return "\n".join(
        [
            "next:",
            f"  {package}/__init__.py: from {package}.{names.module} import {names.cls}",
            f'  {package}/__init__.py, in the table: "{names.name}": {names.cls},',
            f"  {tests[names.kind]}, a row of ROWS: {names.cls}(),",
            f"  poisonbench check {names.kind} {names.name}",
        ]
    )
