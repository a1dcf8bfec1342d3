"""A scene's clean data: loaded, cut down to its size, on its device."""

from dataclasses import dataclass

from experiments.plan.outside import data_facts
from experiments.plan.paths import Place
from experiments.plan.spec import Scene
from experiments.scene.rebuilt import scene_of
from experiments.scene.transfer import set_apart
from poisonbench.data import Dataset, load, subset
from poisonbench.data.classes import of_classes
from poisonbench.errors import ConfigError
from poisonbench.log import Record
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


def clean_of_log(record: Record, place: Place) -> Clean:
    """Returns the clean data of a scene, by its log of kind "scene".

    Raises:
        ConfigError: they cannot be told from the log, need code that is not trusted, or are a data
            set of the user's own that has changed since.
        DataError: the data set is not there, or not as large as the scene takes.
    """
    rebuilt = scene_of(record.config, record.path, {"name": "none"}, place.trust)
    told = record.config["dataset"]
    known = told.get("sha256") if isinstance(told, dict) else None
    if known:
        name = rebuilt.dataset.name
        facts = data_facts(name, place.root, place.download)
        if facts.sha256 != known:
            what = f"{record.path}: data set {name!r} has changed since this was logged"
            raise ConfigError(
                [what], "give the one of that time, or run the grid again"
            )
    return clean_data(rebuilt, place)


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
