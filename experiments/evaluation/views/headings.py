"""What rows were measured on: data set, model, epochs or loop, training rows, for a heading."""

from collections.abc import Iterable

from experiments.evaluation.names import RowNames, scene_config
from experiments.evaluation.rows import Row

ONE_SEED = "intervals are over test points alone, and of other seeds they tell nothing"


def scenes_told(rows: Iterable[Row]) -> tuple[str, ...]:
    """Returns a line for each data set and model of some rows, in their order.

    Such as "digits cnn, 20 epochs, 1,297 training rows"; it begins with the name by which tables
    tell several apart.
    """
    every = list(rows)
    names = RowNames.of(every, ())
    groups: dict[str, list[Row]] = {}
    for row in every:
        name = names.scenes.name(scene_config(row))
        groups.setdefault(name, []).append(row)
    return tuple(_line(name, group) for name, group in groups.items())


def seeds_told(rows: Iterable[Row]) -> str:
    """Returns of which rows the intervals are narrow for want of seeds; empty if of none."""
    able = [row for row in rows if _has_interval(row)]
    alone = [row for row in able if len(row.seeds) == 1]
    if not alone:
        return ""
    if len(alone) == len(able):
        return f"One seed: {ONE_SEED}."
    return f"Where seeds = 1, {ONE_SEED}."


def _has_interval(row: Row) -> bool:
    return any(metric.interval for metric in row.metrics.values())


def _line(name: str, rows: list[Row]) -> str:
    """What is told of one data set and model."""
    words = [name]
    epochs = set()
    loops = set()
    sizes = set()
    for row in rows:
        recipe = row.settings.get("recipe") or {}
        epochs.add(recipe.get("epochs"))
        loops.add(recipe.get("train"))
        for scene in row.poisoned:
            sizes.add(scene.clean_rows)
    others = sorted(str(loop) for loop in loops if loop)
    if others:  # how many epochs, their loop decides
        words.append(f"trained by {' and '.join(others)}")
    elif epochs == {1}:
        words.append("1 epoch")
    elif len(epochs) == 1 and epochs != {None}:
        [count] = epochs
        words.append(f"{count} epochs")
    if len(sizes) == 1:
        [size] = sizes
        words.append(f"{size:,} training rows")
    elif sizes:
        words.append(f"{min(sizes):,} to {max(sizes):,} training rows")
    return ", ".join(words)
