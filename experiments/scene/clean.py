"""A scene's clean data: loaded, cut down to its size, on its device."""

from dataclasses import dataclass

from experiments.plan.paths import Place
from experiments.plan.spec import Scene
from experiments.scene.transfer import set_apart
from poisonbench.data import Dataset, load, subset
from poisonbench.seeding import derive


@dataclass(frozen=True, eq=False)
class Clean:
    """A scene's clean data, on its device: training and test set, and the rows set apart for pretraining, none without it."""

    train: Dataset
    test: Dataset
    pretraining: Dataset


def clean_data(scene: Scene, place: Place) -> Clean:
    """Loads the scene's data, cut down where the scene says so.

    Raises:
        DataError: the data set is not there, or has fewer rows than the scene takes.
    """
    train_set, test_set = load(scene.dataset.name, place.root, place.download)
    pretraining = train_set.take(train_set.y[:0])
    if scene.transfer and scene.transfer.rows:
        pretraining, train_set = set_apart(train_set, scene.transfer.rows, scene.seed)
    sizes = (scene.dataset.train, scene.dataset.test)
    cut = [
        part if size is None else subset(part, size, derive(scene.seed, "rows", name))
        for part, size, name in zip((train_set, test_set), sizes, ("train", "test"), strict=True)
    ]
    return Clean(cut[0].to(place.device), cut[1].to(place.device), pretraining.to(place.device))
