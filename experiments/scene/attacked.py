"""All attacked test points of a scene."""

from torch import Tensor

from experiments.scene.cell import Cell
from experiments.scene.export import difference, logged_poison
from poisonbench import log
from poisonbench.contracts.attack_rules import craft
from poisonbench.data import Dataset
from poisonbench.roles import ATTACKED
from poisonbench.seeding import derive


def attacked_points(cell: Cell) -> tuple[Dataset, Tensor, bool]:
    """Returns the attacked test points with their true labels, the wanted labels on the CPU, and whether these are all points.

    A victim read back from its files does not bring them, so its attack is run again. Where that gives other poison, which
    happens on some GPUs, those of the probe must do.
    """
    victim, scene, clean = cell.victim, cell.scene, cell.victim.clean
    poisoned = victim.poisoned
    if poisoned is None:
        again = craft(
            scene.attack.value,
            clean.train,
            clean.test,
            victim.trace.recipe,
            derive(scene.seed, "attack"),
        )
        record = log.read(cell.place.scene(scene) / "scene.h5", "scene")
        logged = logged_poison(record, clean)
        poisoned = None if difference(again, logged, record, scene, clean) else again
    if poisoned is not None:
        return poisoned.targets.to(cell.device), poisoned.wanted.cpu(), True
    chosen = victim.probe.group == ATTACKED
    return victim.probe.points.take(chosen).to(cell.device), victim.probe.wanted[chosen], False
