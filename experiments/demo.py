"""The two pictures of the demonstration: ROC curves, and the training images on which a prediction rests."""

from pathlib import Path

from experiments.evaluation.load import load_results
from experiments.report.pictures.influence_picture import influence_panel
from experiments.report.pictures.roc import roc_curves
from poisonbench import log
from poisonbench.data import load
from poisonbench.poison_file import unpack_train


def pictures(folder: Path, root: Path | None) -> list[Path]:
    """Draws the pictures from the logs in `folder`, which must be those of the demonstration grid, and saves them there.

    Args:
        folder: of the logs.
        root: of downloaded data sets; the training images are read from the data set, the poison from the log.

    Returns:
        The files.
    """
    saved = [roc_curves(load_results(folder, verify=False), folder / "roc.png")]
    for path in sorted((folder / "scenes").glob("*-patch-s0-*/scene.h5")):
        scene = log.read(path, "scene")
        if scene.config["attack"]["budget"] != 0.05:
            continue
        clean, _ = load(scene.config["dataset"]["name"], root)
        train = unpack_train(scene, clean)
        influence = log.read(next(path.parent.glob("influence-gas-*.h5")), "influence")
        saved.append(
            influence_panel(
                scene, influence, (train.x.numpy(), train.y.numpy()), folder / "influence.png"
            )
        )
    return saved
