"""What names a configuration: its canonical JSON, and a slug with its digest in file names."""

import hashlib
import json
import re
from dataclasses import fields, is_dataclass
from typing import Any

# keys of a configuration that tell what stood behind its names
MARKS = ("code", "version")
CODE = ("name", "model", "train", "loss", "dataset")  # keys that may name code


def configuration(value: Any) -> Any:
    """Returns the fields of a dataclass, nested ones too, as a table that JSON can hold.

    Other values are returned as they are. A field with the metadata `configured=False` is left out:
    what it holds is told by other fields, or by nothing. One with `configured="when changed"` is
    left out while it has its default: it came later, and configurations without it hold.
    """
    if isinstance(value, list | tuple):
        return [configuration(entry) for entry in value]
    if not is_dataclass(value) or isinstance(value, type):
        return value
    table = {}
    for field in fields(value):
        told = field.metadata.get("configured", True)
        held = getattr(value, field.name)
        if told == "when changed":
            told = held != field.default
        if told:
            table[field.name] = configuration(held)
    return table


def unmarked(config: Any) -> Any:
    """Returns a configuration without the marks of code and data that stand beside the names.

    Two configurations that agree in this differ at most in the code behind their names.
    """
    if isinstance(config, list):
        return [unmarked(entry) for entry in config]
    if not isinstance(config, dict):
        return config
    plain = {
        name: unmarked(value) for name, value in config.items() if name not in MARKS
    }
    for name in ("dataset", "transfer"):
        if isinstance(plain.get(name), dict):
            plain[name].pop("sha256", None)
    return plain


def code_named(config: Any) -> list[str]:
    """Returns the names of code outside the package, module:name, that a configuration holds."""
    if isinstance(config, list):
        found = [name for entry in config for name in code_named(entry)]
        return list(dict.fromkeys(found))
    if not isinstance(config, dict):
        return []
    named: dict[str, None] = {}
    for key, value in config.items():
        if isinstance(value, str) and key in CODE and ":" in value:
            named[value] = None
        named |= dict.fromkeys(code_named(value))
    return list(named)


def marks_of(config: Any) -> dict[str, str]:
    """Returns the marks that a configuration holds, by the name behind which each stands.

    A name is that of a method, a model or a data set from outside the package, "version" or
    "transfer.state".
    """
    found: dict[str, str] = {}
    if isinstance(config, list):
        for entry in config:
            found |= marks_of(entry)
    if not isinstance(config, dict):
        return found
    if "code" in config:
        found[str(config.get("name", config.get("model")))] = str(config["code"])
    if "version" in config:
        found["version"] = str(config["version"])
    for name, value in config.items():
        if (
            name in ("dataset", "transfer")
            and isinstance(value, dict)
            and value.get("sha256")
        ):
            place = "transfer.state" if name == "transfer" else str(value.get("name"))
            found[place] = str(value["sha256"])
        found |= marks_of(value)
    return found


def canonical(config: object) -> str:
    """Returns the one JSON text of a configuration: sorted keys, no white space.

    Raises:
        ValueError: a value that JSON does not know.
    """
    return json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)


def slug(label: str, most: int = 60) -> str:
    """Returns at most `most` of [a-z0-9-] that tell of `label`."""
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")[:most].rstrip("-")


def identifier(label: str, config: object) -> str:
    """Returns a slug of `label`, at most 60 of [a-z0-9-], and 8 hex digits of the configuration."""
    digest = hashlib.sha256(canonical(config).encode()).hexdigest()
    return f"{slug(label)}-{digest[:8]}"


def short(value: object) -> str:
    """Returns the value of a hyperparameter in few letters."""
    if isinstance(value, float):
        return f"{value:g}"
    if not isinstance(value, str):
        return json.dumps(value)
    if re.fullmatch("[0-9a-f]{64}", value):
        return value[:8]  # a sha256
    return value
