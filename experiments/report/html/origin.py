"""Where the figures of a page come from: versions, seeds, devices, and what methods were given."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from experiments.evaluation.load import Results, settings
from experiments.evaluation.names import ShortNames, natural
from experiments.plan.cells import seconds_of
from experiments.plan.identity import short
from experiments.plan.kinds import DONE, KINDS
from experiments.report.table import Table
from poisonbench import log
from poisonbench.log import Record

MOST_LETTERS = 20_000  # of the grid file
MOST_VALUES = 12  # told of one fact
FACTS = {  # attribute of the logs -> what it is called
    "commit": "commit",
    "python": "Python",
    "numpy": "numpy",
    "h5py": "h5py",
    "processor": "processor",
    "device": "device",
    "threads": "torch threads",
}
GIVEN = {  # what a method may use -> what that is
    "oracle": "the ground truth of the attack",
    "reference": "trusted clean points",
    "probe": "the other test points",
    "influence": "influence",
    "features": "features of the model",
    "gradients": "gradients",
    "retraining": "training again",
}


def facts(results: Results) -> list[tuple[str, str]]:
    """Returns names and values that tell where the logs come from."""
    records = [record for of_kind in results.records.values() for record in of_kind]
    found = [("made by", _counted(log.versions_of(r.attributes for r in records)))]
    for key, name in FACTS.items():
        counts = Counter(_value(record, key) for record in records)
        del counts[""]
        found.append((name, _counted(counts, several=len(counts) > 1)))
    scenes = results.of("scene")
    seeds = {settings(scene)[1] for scene in scenes}
    found.append(("seeds", ", ".join(map(str, sorted(seeds)[:MOST_VALUES]))))
    dates = sorted(_value(record, "date") for record in records)
    dates = [date for date in dates if date]
    if dates:
        found.append(("first log", dates[0]))
        found.append(("last log", dates[-1]))
    for part in ("dataset", "recipe", "transfer", "probe"):
        told = Counter(_table_of(scene, part) for scene in scenes)
        del told[""]
        found.append((part, _counted(told, several=len(told) > 1)))
    return [(name, value) for name, value in found if value]


def _value(record: Record, key: str) -> str:
    return str(record.attributes.get(key, ""))


def _table_of(scene: Record, part: str) -> str:
    """A table of a scene's configuration in words; empty without one."""
    named, _ = settings(scene)
    fields = named.get(part) or {}
    told = [f"{key} = {short(value)}" for key, value in fields.items()]
    return ", ".join(told)


def _counted(counts: Counter[str], several: bool = True) -> str:
    """The values, the most frequent first, each with how many logs have it."""
    told = []
    for value, count in counts.most_common(MOST_VALUES):
        told.append(f"{value} ({count})" if several else value)
    if len(counts) > MOST_VALUES:
        told.append(f"and {len(counts) - MOST_VALUES} others")
    return "; ".join(told)


def grid_file(folder: Path) -> tuple[str, str]:
    """Returns name and text of what the run was asked to do; empty where it is not there."""
    for name in ("grid.toml", "audit.toml"):
        path = folder / name
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        if len(text) > MOST_LETTERS:
            text = f"{text[:MOST_LETTERS]}\n... cut"
        return name, text
    return "", ""


def given_table(results: Results) -> Table:
    """Returns what every method was given beyond the victim, as its logs say."""
    lines: dict[tuple[str, str], set[str]] = {}
    for kind in DONE:
        records = results.of(kind.name)
        shown = ShortNames.of(record.config.get(kind.part) for record in records)
        for record in records:
            name = shown.name(record.config.get(kind.part))
            uses = lines.setdefault((kind.part, name), set())
            uses.update(_value(record, "uses").split(","))
    body = []
    for (part, name), uses in lines.items():
        words = {GIVEN.get(use.strip(), use.strip()) for use in uses}
        truth = "yes" if "oracle" in uses else "no"
        trusted = "yes" if "reference" in uses else "no"
        told = ", ".join(sorted(word for word in words if word))
        body.append((part, name, truth, trusted, told or "-"))
    legend = (
        "What a method was given beyond the victim and its training set. ground truth: which "
        "training rows are poison, which nobody knows in use. trusted points: test points known "
        "to be clean. All thresholds are set on further clean points."
    )
    head = ("part", "method", "ground truth", "trusted points", "all it reads")
    return Table("INPUTS", legend, head, body, 4)


def time_table(results: Results) -> Table:
    """Returns how long the cells of each kind took, by their logs."""
    body = []
    for kind in KINDS:
        seconds = [seconds_of(record.attributes) for record in results.of(kind.name)]
        total = sum(seconds)
        if total > 0:
            numbers = (total, total / len(seconds), max(seconds))
            cells = [f"{number:.3g}" for number in numbers]
            body.append((kind.name, str(len(seconds)), *cells))
    legend = (
        "Wall seconds of the cells by kind, as their logs tell; scene: attack and training of "
        "the victim. Reading, writing and the start of processes are not in it."
    )
    return Table("TIME", legend, ("kind", "cells", "s", "mean s", "longest s"), body, 1)


def warning_table(results: Results) -> Table:
    """Returns the warnings that cells raised, the most frequent first."""
    counts: Counter[str] = Counter()
    kinds: dict[str, set[str]] = {}
    for kind in KINDS:
        for text in _warnings(results.of(kind.name)):
            counts[text] += 1
            kinds.setdefault(text, set()).add(kind.name)
    body = []
    for text, count in counts.most_common():
        body.append((text, ", ".join(sorted(kinds[text], key=natural)), str(count)))
    legend = "Warnings that were raised while cells ran, with the number of their logs."
    return Table("WARNINGS", legend, ("warning", "kind", "logs"), body, 2)


def _warnings(records: Sequence[Record]) -> Iterable[str]:
    for record in records:
        for text in _value(record, "warnings").splitlines():
            if text.strip():
                yield text.strip()
