"""A scene's clean data: loaded, cut down to its size, on its device."""

from dataclasses import dataclass

from experiments.plan.paths import Place
from experiments.plan.spec import Scene
from experiments.scene.transfer import set_apart
from poisonbench.data import Dataset, load, subset
from poisonbench.data.classes import of_classes
from poisonbench.seeding import derive


@dataclass(frozen=True, eq=False)
class Clean:
    """A scene's clean data, on its device.

    Attributes:
        train: training set.
        test: test set.
        pretraining: the rows set apart for pretraining, none without it.
    """

    train: Dataset
    test: Dataset
    pretraining: Dataset


def clean_data(scene: Scene, place: Place) -> Clean:
    """Loads the scene's data, cut down where the scene says so.

    Raises:
        DataError: the data set is not there, or has fewer rows or classes than the scene takes.
    """
    spec = scene.dataset
    train, test = load(spec.name, place.root, place.download)
    if spec.classes:
        train = of_classes(train, spec.name, spec.classes)
        test = of_classes(test, spec.name, spec.classes)
    pretraining = train.take(train.y[:0])
    if scene.transfer and scene.transfer.rows:
        pretraining, train = set_apart(train, scene.transfer.rows, scene.seed)
    if spec.train is not None:
        train = subset(train, spec.train, derive(scene.seed, "rows", "train"))
    if spec.test is not None:
        test = subset(test, spec.test, derive(scene.seed, "rows", "test"))
    device = place.device
    return Clean(train.to(device), test.to(device), pretraining.to(device))
