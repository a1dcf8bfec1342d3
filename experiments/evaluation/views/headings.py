"""What rows were measured on: data set, model, epochs and training rows, as a heading tells it."""

from collections.abc import Iterable

from experiments.evaluation.names import RowNames, scene_config
from experiments.evaluation.rows import Row


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


def _line(name: str, rows: list[Row]) -> str:
    """What is told of one data set and model."""
    words = [name]
    epochs = {(row.settings.get("recipe") or {}).get("epochs") for row in rows}
    if len(epochs) == 1 and None not in epochs and " epochs=" not in name:
        [count] = epochs
        words.append("1 epoch" if count == 1 else f"{count} epochs")
    sizes = {scene.clean_rows for row in rows for scene in row.poisoned}
    if sizes:
        told = [f"{size:,}" for size in (min(sizes), max(sizes))]
        words.append(f"{' to '.join(dict.fromkeys(told))} training rows")
    return ", ".join(words)
