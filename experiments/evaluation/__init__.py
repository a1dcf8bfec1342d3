"""From logs to rows: metrics with intervals, from the logs alone. Needs no torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas


def frame(
    folder: Path | str,
    where: Sequence[str] = (),
    by: Sequence[str] = (),
    over_seeds: bool = False,
) -> "pandas.DataFrame":
    """Returns the results of a run as a tidy table: one line a cell and metric.

    The columns are `table` ("victims", "detections", "costs", ...), `seeds`, the settings as
    PART.FIELD ("attack.name", "attack.budget", "detector.k", ...), budgets, counts as n.NAME, and
    then `metric`, `value`, `low` and `high` (ends of the interval of 95 % confidence), `defined`
    (how many numbers entered a mean) and `reason` (why a value is undefined, and nan). The values
    are those of `poisonbench evaluate`, to the last digit. Columns without a value are left out.

    Args:
        folder: of a run.
        where: conditions such as "attack=patch", see `poisonbench evaluate --where`.
        by: keys such as "detector": means over all else, as `poisonbench evaluate --by` gives.
        over_seeds: the rows of the tables, which are means over the seeds, in place of single
            cells.

    Raises:
        ConfigError: pandas is not installed (extra `frame`), the folder holds no run, or a
            condition or key is of none of its logs.
    """
    from experiments.evaluation.views.tidy import tidy

    return tidy(folder, where, by, over_seeds)
