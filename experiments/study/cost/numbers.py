"""The measured costs as a file, so that tables and figure can be made again."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from experiments.study.cost.measured import Growth, Spent


def save(found: Sequence[Growth], path: Path) -> None:
    """Writes the costs as JSON."""
    lines = [dataclasses.asdict(growth) for growth in found]
    path.write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> list[Growth]:
    """Returns the costs that `save` wrote."""
    found = []
    for line in json.loads(path.read_text(encoding="utf-8")):
        spent = [tuple(Spent(**one) for one in row) for row in line["spent"]]
        growth = Growth(
            name=line["name"],
            axis=line["axis"],
            sizes=tuple(line["sizes"]),
            spent=tuple(spent),
        )
        found.append(growth)
    return found
