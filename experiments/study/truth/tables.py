"""Metrics in the cells of tables, and what a page tells of scores and seconds."""

import re
from dataclasses import replace
from pathlib import Path

from experiments.evaluation.metrics import Metric
from experiments.study.truth.figure import Placed
from poisonbench.errors import ConfigError

HEAD = (
    "estimator",
    "score",
    "one training per half",
    "corrected",
    "fit s",
    "score s",
)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


def plain(metric: Metric) -> str:
    """Returns a metric in two digits."""
    return "-" if metric.value is None else f"{metric.value:.2f}"


def shown(metric: Metric) -> str:
    """Returns a metric with its interval, or with the reason why there is none."""
    if metric.value is None:
        return f"- ({metric.reason})" if metric.reason else "-"
    text = f"{metric.value:.3f}"
    if metric.interval is not None:
        low, high = metric.interval
        text += f" [{low:.3f}, {high:.3f}]"
    return text


def read(page: Path, scene: str) -> list[Placed]:
    """Returns the estimators of the table of scores below a heading of a page of results.

    Raises:
        ConfigError: there is no such heading, or no such table below it.
    """
    lines = page.read_text(encoding="utf-8").splitlines()
    titles = [line.lstrip("# ") if line.startswith("#") else "" for line in lines]
    if scene not in titles:
        known = ", ".join(filter(None, titles))
        told = f"{page} has no heading {scene!r}"
        raise ConfigError([told], f"its headings: {known}")
    found = []
    for line in lines[titles.index(scene) + 1 :]:
        if line.startswith("#"):
            break
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == len(HEAD) and NUMBER.fullmatch(cells[-1]):
            found.append(_placed(cells))
    if not found:
        told = f"{page} has no table of scores below {scene!r}"
        raise ConfigError([told], f"its columns are {', '.join(HEAD)}")
    return found


def _placed(cells: list[str]) -> Placed:
    """Returns what a line of the table tells; the numbers have the digits that it shows."""
    numbers = [float(number) for number in NUMBER.findall(cells[1])]
    score = Metric(numbers[0] if numbers else None)
    if len(numbers) == 3:
        score = replace(score, interval=(numbers[1], numbers[2]))
    seconds = float(cells[-2]) + float(cells[-1])
    return Placed(cells[0], score, seconds)
