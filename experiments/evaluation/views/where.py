"""Some of the logs of a run: those that meet conditions such as `attack=patch` or `seed!=0`.

A condition asks of a part of a log's configuration. It leaves alone what has no such part: a
condition on the detector keeps the victims, which have none.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from experiments.evaluation.load import Results, settings
from experiments.plan.identity import short
from poisonbench.errors import ConfigError
from poisonbench.log import Record
from poisonbench.registry import nearest

FORM = re.compile(r"([\w.-]+?)(!?=)(.*)", re.DOTALL)
NAMED = {"model": "recipe.model", "epochs": "recipe.epochs"}  # shorter than they are
HINT = (
    "for example attack=patch, attack=patch,blend, detector.k=3, seed=0, attack!=none"
)


@dataclass(frozen=True)
class Condition:
    """A key of a configuration with the values that it may have, or may not.

    Attributes:
        text: as it was written.
        key: "seed", a part ("attack" stands for "attack.name"), or "part.field".
        values: in words.
        unless: whether these are the values that it may not have.
    """

    text: str
    key: str
    values: tuple[str, ...]
    unless: bool = False

    @classmethod
    def of(cls, text: str) -> "Condition":
        """Reads KEY=VALUE, KEY=VALUE,VALUE or KEY!=VALUE.

        Raises:
            ConfigError: the text is none of these.
        """
        found = FORM.fullmatch(text)
        if found is None:
            raise ConfigError([f"a condition is KEY=VALUE, got {text!r}"], HINT)
        key, sign, values = found.groups()
        several = [values, *values.split(",")]
        return cls(text, NAMED.get(key, key), tuple(several), sign == "!=")

    def meets(self, value: Any) -> bool:
        """Whether a value is one that the condition asks for."""
        is_among = any(_equal(value, word) for word in self.values)
        return is_among != self.unless


def _equal(value: Any, word: str) -> bool:
    """Whether a word says a value: `0.05` also .05 and 5e-2, `none` also null."""
    if value is None:
        return word in ("none", "null")
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(word) == value
        except ValueError:
            return False
    return word == short(value)


def named_values(record: Record) -> dict[str, Any]:
    """Returns what a condition may ask of a log: "seed", "attack", "attack.budget", ...

    A part that a log has, but that is of no method, is None.
    """
    named, seed = settings(record)
    found: dict[str, Any] = {"seed": seed}
    for part, config in named.items():
        if not isinstance(config, dict):
            found[part] = config
            continue
        for field, value in config.items():
            found[f"{part}.{field}"] = value
        if "name" in config:
            found[part] = config["name"]
    return found


def where(results: Results, conditions: Sequence[str]) -> Results:
    """Returns the results with those logs alone that meet every condition.

    Failures and damaged logs stay.

    Raises:
        ConfigError: a condition is of no known form, or there is no log that it would keep for what
            it asks.
    """
    kept = dict(results.records)
    failures = kept.pop("failure", ())
    asked = [Condition.of(text) for text in conditions]
    if asked:
        there = _values_of(kept.values())
        asked = [_resolved(condition, there) for condition in asked]
    for kind, records in kept.items():
        kept[kind] = tuple(r for r in records if _meets_all(r, asked))
    kept["failure"] = failures
    return replace(results, records=kept)


def _values_of(
    groups: Iterable[Sequence[Record]],
) -> dict[str, dict[str, Any]]:
    """What conditions may ask of some logs: for each key its values, by their words."""
    there: dict[str, dict[str, Any]] = {}
    for records in groups:
        for record in records:
            for key, value in named_values(record).items():
                there.setdefault(key, {})[_word(value)] = value
    return there


def _resolved(condition: Condition, there: dict[str, dict[str, Any]]) -> Condition:
    """The condition with its whole key: `budget` is "attack.budget" where no other part has one.

    Raises:
        ConfigError: no log has such a key, or none with such a value.
    """
    key = condition.key
    if key not in there:
        inner = [known for known in there if known.endswith(f".{key}")]
        if len(inner) != 1:
            what = f"{key!r} names no key of these logs{nearest(key, there)}"
            if inner:
                what = f"{key!r} names several keys of these logs"
            known = ", ".join(inner or sorted(there))
            raise ConfigError([what], f"conditions may ask of: {known}")
        key = inner[0]
    if not any(condition.meets(value) for value in there[key].values()):
        told = f"{key} is one of: {', '.join(there[key])}"
        raise ConfigError([f"no log meets {condition.text!r}"], told)
    return replace(condition, key=key)


def _meets_all(record: Record, conditions: Sequence[Condition]) -> bool:
    """Whether a log meets each condition, or has nothing that it asks of."""
    values = named_values(record) if conditions else {}
    for condition in conditions:
        part = condition.key.partition(".")[0]
        if part in values and not condition.meets(values.get(condition.key)):
            return False
    return True


def _word(value: Any) -> str:
    """A value in the words of a condition."""
    return "none" if value is None else short(value)
