"""The pictures of the demonstration: plots of it, and the training images of a prediction."""

from pathlib import Path

from experiments.evaluation.load import load_results
from experiments.evaluation.summary import summarise
from experiments.report.explanation.instances import Instances
from experiments.report.explanation.matrix import Matrix
from experiments.report.pictures.influence_picture import influence_panel
from experiments.report.pictures.look import save
from experiments.report.plots.kinds import DRAWN, Source
from poisonbench import log
from poisonbench.data import load
from poisonbench.poison_file import unpack_train

PLOTS = ("roc", "auc-by-attack", "auc-by-success")
BUDGET = 0.05  # of the attack whose influence is drawn


def pictures(folder: Path, root: Path | None) -> list[Path]:
    """Draws the pictures from the logs of the demonstration grid, and saves them beside these.

    Args:
        folder: of the logs.
        root: of downloaded data sets; the training images are read from the data set, the poison
            from the log.

    Returns:
        The files.
    """
    results = load_results(folder, verify=False)
    source = Source(results, summarise(results))
    saved = [save(DRAWN[kind](source), folder / f"{kind}.png") for kind in PLOTS]
    for path in sorted((folder / "scenes").glob("*-patch-s0-*/scene.h5")):
        scene = log.read(path, "scene")
        if scene.config["attack"]["budget"] != BUDGET:
            continue
        clean, _ = load(scene.config["dataset"]["name"], root)
        train = unpack_train(scene, clean)
        influence_path = next(path.parent.glob("influence-gas-*.h5"))
        influence = Matrix.of(influence_path)
        saved.append(
            influence_panel(
                scene, influence, Instances.of(train), folder / "influence.png"
            )
        )
    return saved
