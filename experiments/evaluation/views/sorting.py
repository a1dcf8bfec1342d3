"""The order of rows: what `--sort` asks for."""

from collections.abc import Mapping, Sequence

from experiments.evaluation.names import RowNames
from experiments.evaluation.rows import Row
from poisonbench.errors import ConfigError
from poisonbench.registry import nearest

UNGROUPED = ("victims", "costs")  # tables in which rows of one attack stand in no group


def sort_tables(
    tables: Mapping[str, Sequence[Row]], metric: str, ascending: bool = False
) -> dict[str, Sequence[Row]]:
    """Returns the tables with their rows sorted by a metric, those without a value last.

    Where a table shows the attack above its rows, the attacks keep their order. A table without the
    metric stays as it is.

    Args:
        tables: rows by the names of tables.
        metric: such as "auroc".
        ascending: the smallest value first, instead of the largest.

    Raises:
        ConfigError: no table has the metric.
    """
    known: set[str] = set()
    for rows in tables.values():
        for row in rows:
            known.update(row.metrics)
    if metric not in known:
        what = f"{metric!r} is no metric of these results{nearest(metric, known)}"
        there = ", ".join(sorted(known))
        raise ConfigError([what], f"metrics: {there or 'none'}")
    found: dict[str, Sequence[Row]] = {}
    for table, rows in tables.items():
        by_attack = table not in UNGROUPED
        found[table] = _sorted(rows, metric, ascending, by_attack)
    return found


def _sorted(
    rows: Sequence[Row], metric: str, ascending: bool, by_attack: bool
) -> list[Row]:
    """The rows in their order."""
    names = RowNames.of(rows)
    places: dict[str, int] = {}
    if by_attack:
        for row in rows:
            places.setdefault(names.attack(row), len(places))

    def key(row: Row) -> tuple[int, bool, float]:
        value = None
        if metric in row.metrics:
            value = row.metrics[metric].value
        attack = names.attack(row)
        place = places.get(attack, 0)
        if value is None:
            return place, True, 0.0
        if not ascending:
            value = -value
        return place, False, value

    return sorted(rows, key=key)
