"""From the configuration in a log to its scene. A log may be anyone's: it is data, not code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.plan.identity import unmarked
from experiments.plan.parse import parse
from experiments.plan.spec import Scene
from poisonbench.errors import ConfigError


def scene_of(
    config: Mapping[str, Any], path: Path, attack: Mapping[str, Any], trust: bool
) -> Scene:
    """Rebuilds the scene of a log's configuration, with `attack` in place of its own.

    A log may be anyone's: unless it is trusted, no code is run that it names. A model outside the
    package is then replaced, as it moves no rows.

    Raises:
        ConfigError: this version cannot run it, or it needs code that is not trusted.
    """
    # a given model lies in the trace and moves no rows; code and data may have changed since
    plain = unmarked({**config, "attack": dict(attack)})
    if not trust:
        _check_code(plain, path)
        plain["recipe"] = _without_code(plain.get("recipe"))
    seed = plain.pop("seed", None)
    try:
        scenes = parse({**plain, "attack": [plain["attack"]], "seeds": [seed]}).scenes
    except ConfigError as error:
        faults = [
            f"{path}: its configuration cannot be run here: {e}" for e in error.errors
        ]
        raise ConfigError(faults) from error
    if len(scenes) != 1:
        what = f"{path}: its configuration is that of {len(scenes)} scenes"
        raise ConfigError([what], "name the scene.h5 of a run")
    return scenes[0]


def _check_code(config: Mapping[str, Any], path: Path) -> None:
    """Raises ConfigError if data set or attack are code outside the package."""
    named = []
    for part in ("dataset", "attack"):
        value = config.get(part)
        name = value.get("name") if isinstance(value, dict) else value
        if isinstance(name, str) and ":" in name:
            named.append(f"{path} names code: {part} {name!r}")
    if named:
        raise ConfigError(named, "read that code, then run it with --trust")


def _without_code(recipe: object) -> object:
    """Returns a recipe with a model of the package in the place of any other, and no loop."""
    if not isinstance(recipe, dict):
        return recipe
    code = ["train", "loss"]
    if ":" in str(recipe.get("model", "")):
        code += ["model", "model_args"]
    return {name: value for name, value in recipe.items() if name not in code}
