"""The report of a run: one page of HTML, with everything in it."""

from dataclasses import dataclass
from pathlib import Path

from experiments.evaluation.load import load_results
from experiments.evaluation.summary import Fault, summarise
from experiments.explain import training_set
from experiments.plan.paths import Place
from experiments.report.explanation.instances import Instances
from experiments.report.html.page import Told, page
from experiments.report.html.undone import undone
from poisonbench import log
from poisonbench.errors import ConfigError, LogWriteError
from poisonbench.log import Record

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

    def instances(scene: Record) -> Instances:
        return Instances.of(training_set(scene, place))

    text = page(Told(results, summary, lacks), instances)
    file = path or place.folder / NAME
    try:
        log.write_text(file, text)
    except LogWriteError as error:
        raise ConfigError([str(error)], "name another file: -o FILE") from error
    return Written(file, lacks.damaged)
