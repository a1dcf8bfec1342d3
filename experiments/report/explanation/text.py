"""The explanation of one prediction as text."""

import textwrap
from collections.abc import Sequence

from experiments.evaluation.names import ShortNames
from experiments.report.explanation.instances import Instances
from experiments.report.explanation.matrix import Matrix
from experiments.report.explanation.ranked import Values, most_harmful, most_helpful
from experiments.report.text import printable
from poisonbench.log import Record, names
from poisonbench.roles import (
    ATTACKED,
    CALIBRATION,
    COVER,
    JUDGED,
    MATCHED,
    POISON,
    RANDOM,
    UNTOLD,
)

WIDTH = 100
INDENT = " " * 4
GROUPS = {
    ATTACKED: "attacked test point",
    MATCHED: "clean test point",
    RANDOM: "clean test point",
    CALIBRATION: "clean test point for calibration",
    JUDGED: "point to be judged",
}
ROLES = {POISON: "POISON", COVER: "COVER"}


def rows_shown(influences: Sequence[Matrix], point: int, top: int) -> list[int]:
    """Returns the training rows that `explanation` shows, ascending; arguments as there."""
    found: set[int] = set()
    for matrix in influences:
        values = matrix.on(point)
        for rows in (most_helpful(values, top), most_harmful(values, top)):
            found.update(rows.tolist())
    return sorted(found)


def explanation(
    scene: Record,
    influences: Sequence[Matrix],
    train: Instances,
    point: int,
    top: int,
) -> str:
    """Returns why a test point is predicted as it is, by each estimator.

    Args:
        scene: log of kind "scene", with its probe and the roles of the training rows.
        influences: matrices of that scene, (m, n).
        train: the poisoned training instances, at least those of `rows_shown`.
        point: row of the probe.
        top: training rows of each list.
    """
    parts = [_point(scene, train, point)]
    known = ShortNames.of(matrix.config for matrix in influences)
    for matrix in influences:
        values = matrix.on(point)
        name = printable(known.name(matrix.config))
        role = scene.data[names.POISON_ROLE]
        helpful = most_helpful(values, top)
        harmful = most_harmful(values, top)
        poison = int((role[helpful] == POISON).sum())
        head = f"{name}: what helped this prediction most"
        if not (role == UNTOLD).any():
            head += f", {poison} of {len(helpful)} rows poison"
        parts.append(_rows(head, helpful, values, role, train))
        if len(harmful):
            head = f"{name}: what worked against it most"
            parts.append(_rows(head, harmful, values, role, train))
    return "\n\n".join(parts)


def _point(scene: Record, train: Instances, point: int) -> str:
    data = scene.data
    group = GROUPS.get(int(data[names.PROBE_GROUP][point]), "test point")
    true = int(data[names.PROBE_Y][point])
    told = f"{group} {point}: "
    if true >= 0:
        told += f"true {true}, "
    told += f"predicted {int(data[names.PROBE_PREDICTED][point])}"
    wanted = int(data[names.PROBE_WANTED][point])
    if wanted >= 0:
        told += f", wanted {wanted}"
    return told + _in_words(train.at(data[names.PROBE_X][point]), INDENT)


def _rows(
    head: str, rows: Values, values: Values, role: Values, train: Instances
) -> str:
    lines = [head]
    for row in rows:
        word = ROLES.get(int(role[row]), "")
        label = int(train.y[row])
        line = f"  {values[row]:+10.3g}  {word:6}  label {label}  row {row}"
        lines.append(line + _in_words(train.at(train.x[row]), 3 * INDENT))
    return "\n".join(lines)


def _in_words(text: str, indent: str) -> str:
    """An instance below its line, if it is told in words."""
    if not text:
        return ""
    wrapped = textwrap.wrap(
        printable(text),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )
    return "\n" + "\n".join(wrapped)
