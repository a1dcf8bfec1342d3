"""The command `check`: which method, on which data, and a line per rule as soon as it is known."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import click

from experiments.check.target import verdicts
from experiments.check.verdict import Verdict
from experiments.plan.gridfile import parsed_value
from poisonbench.errors import ConfigError

MARKS = {
    "ok": ("ok", "green"),
    "fail": ("FAIL", "red"),
    "warn": ("warn", "yellow"),
    "skip": ("-", None),
}
WIDTH = 14  # of the names of the rules


def report(
    kind: str, target: str, settings: tuple[str, ...], as_json: bool, **how: Any
) -> int:
    """Prints the verdicts, each as soon as it is known; returns the exit code: 1 if one failed."""
    method, found = verdicts(kind, target, _parsed(settings), **how)
    told: list[Verdict] = []
    if as_json:
        told += found
        rows = [asdict(verdict) for verdict in told]
        content = {
            "kind": kind,
            "name": target,
            "method": repr(method),
            "verdicts": rows,
        }
        click.echo(json.dumps(content, indent=2))
    else:
        click.echo(f"{kind} {target}: {method!r}\n")
        for verdict in found:
            click.echo(line(verdict))
            told.append(verdict)
        click.echo(f"\n{closing(told)}")
    return int(any(verdict.outcome == "fail" for verdict in told))


def _parsed(settings: tuple[str, ...]) -> dict[str, Any]:
    """The hyperparameters given as FIELD=VALUE."""
    table = {}
    for text in settings:
        name, sign, value = text.partition("=")
        if not sign:
            raise ConfigError(
                [f"--set {text}: no value"], "the form is FIELD=VALUE, e.g. budget=0.1"
            )
        table[name.strip()] = parsed_value(value)
    return table


def line(verdict: Verdict) -> str:
    """Returns a verdict as a person reads it; what is wrong is followed by the rule in words."""
    mark, colour = MARKS[verdict.outcome]
    head = click.style(f"{mark:<5}", fg=colour, bold=verdict.outcome == "fail")
    told = verdict.told or verdict.words
    text = f"{head} {verdict.rule:<{WIDTH}} {told}"
    if verdict.outcome == "skip":
        return click.style(text, dim=True)
    if verdict.outcome in ("fail", "warn"):
        margin = " " * (WIDTH + 7)
        return f"{text}\n{margin}rule: {verdict.words}"
    return text


def closing(verdicts: Iterable[Verdict]) -> str:
    """Returns the last line: how many rules were kept, broken, doubtful, and left out."""
    names: dict[str, list[str]] = {outcome: [] for outcome in MARKS}
    for verdict in verdicts:
        names[verdict.outcome].append(verdict.rule)
    parts = [f"{len(names['ok'])} rules kept"]
    for outcome, word in (("fail", "broken"), ("warn", "to look at")):
        if names[outcome]:
            listed = ", ".join(names[outcome])
            parts.append(f"{len(names[outcome])} {word} ({listed})")
    if names["skip"]:
        parts.append(f"{len(names['skip'])} left out")
    return ", ".join(parts)
