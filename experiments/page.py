"""The report of a run: one page of HTML, with everything in it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from experiments.evaluation.kinds.points import is_audit
from experiments.evaluation.load import load_results
from experiments.evaluation.summary import Fault, summarise
from experiments.plan.paths import Place
from experiments.report.explanation.instances import Instances
from experiments.report.html.page import Told, page
from experiments.report.html.undone import undone
from experiments.scene.audited import train_of_audit
from experiments.scene.clean import clean_of_log
from poisonbench import log
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError, LogWriteError
from poisonbench.log import Record
from poisonbench.poison_file import unpack_train

NAME = "report.html"


@dataclass(frozen=True)
class Written:
    """A report that was written.

    Attributes:
        path: the file.
        damaged: files of the run that cannot be read, which it lists.
    """

    path: Path
    damaged: tuple[Fault, ...]


class _Sources:
    """Training rows of scenes; what they are made from is kept for the next scene alike."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._key = ""
        self._data: Dataset | None = None

    def rows(self, scene: Record, rows: Sequence[int]) -> Instances:
        """Returns rows of the training set of a scene, with its poison.

        Raises:
            PoisonbenchError: they cannot be told, see `experiments.explain.training_rows`.
        """
        wanted = torch.tensor(list(rows), dtype=torch.int64)
        config = dict(scene.config)
        audited = is_audit(scene)
        if not audited:
            del config["attack"]
        key = json.dumps(config, sort_keys=True)
        if self._data is None or key != self._key:
            self._data = None  # before the next one is read: they are large
            if audited:
                self._data = train_of_audit(scene, self._place.trust)
            else:
                self._data = clean_of_log(scene, self._place).train
            self._key = key
        if audited:
            return Instances.of(self._data.take(wanted))
        return Instances.of(unpack_train(scene, self._data, wanted))


def write_report(place: Place, path: Path | None = None) -> Written:
    """Writes the report of a run's folder.

    The poisoned rows that it shows come from the logs, the clean ones from the data set; where that
    cannot be read, the page says why it shows none.

    Args:
        place: the folder, and where data are.
        path: the file; None for `report.html` in the folder.

    Raises:
        ConfigError: the folder holds no run, or the file cannot be written.
    """
    results = load_results(place.folder)
    summary = summarise(results)
    lacks = undone(place.folder, summary)

    sources = _Sources(place)
    text = page(Told(results, summary, lacks), sources.rows)
    file = path or place.folder / NAME
    try:
        log.write_text(file, text)
    except LogWriteError as error:
        raise ConfigError([str(error)], "name another file: -o FILE") from error
    return Written(file, lacks.damaged)
