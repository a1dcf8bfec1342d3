"""The victim of a scene: attack, train, choose the probe; or all of it read back from its files.

dataset -> attack -> train -> probe (scene.h5, trace.h5) -> the stages that judge them, a file each.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from experiments.plan.paths import Place
from experiments.plan.spec import Method, Scene
from experiments.scene.archive import pack_trace, pack_truth, unpack_trace
from experiments.scene.attacked import (
    Attacked,
    keep_attacked,
    pack_attacked,
    rows_to_keep,
    unpack_attacked,
)
from experiments.scene.clean import Clean, clean_data
from experiments.scene.cost import Cost, measured, noted
from experiments.scene.probe import (
    Probe,
    choose_probe,
    make_probe,
    pack_probe,
    unpack_probe,
)
from experiments.scene.transfer import make_start
from poisonbench import log
from poisonbench.contracts.attack_rules import craft
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.log import names
from poisonbench.models import predict
from poisonbench.notes import Notes, collecting
from poisonbench.poison_file import pack_kind, unpack_train
from poisonbench.roles import ATTACKED, COVER, POISON
from poisonbench.seeding import derive
from poisonbench.training import Recipe, train
from poisonbench.training.trace import Trace


@dataclass(frozen=True, eq=False)
class Victim:
    """What the stages after training work on.

    Attributes:
        trace: the training run.
        probe: the points on which it is judged.
        role: (n,) uint8 on the CPU, the ground truth of the training instances.
        clean: the scene's clean data.
        attacked: the attacked test points that the scene keeps.
    """

    trace: Trace
    probe: Probe
    role: Tensor
    clean: Clean
    attacked: Attacked

    @property
    def test(self) -> Dataset:
        """The probe with the predicted labels, where the victim was trained: all a defense sees."""
        return self.probe.points.relabel(self.probe.predicted).to(
            self.trace.train.x.device
        )


@dataclass(frozen=True, eq=False)
class Crafted:
    """What the attack returned, and what its run told.

    Attributes:
        poisoned: the poisoned training set and the attacked test points.
        cost: of the attack.
        warnings: that it raised.
        told: its notes.
    """

    poisoned: Poisoned
    cost: Cost
    warnings: list[str]
    told: Notes


def check_scene(scene: Scene, place: Place) -> None:
    """Finds before anything is trained what would stop the scene.

    Raises:
        DataError: absent data or too few rows, see `clean_data`.
        ConfigError: a given model that does not fit, see `make_start`.
    """
    data = clean_data(scene, place)
    if scene.transfer and scene.transfer.state:
        make_start(scene, data.pretraining)


def make_victim(scene: Scene, place: Place) -> Victim:
    """Returns the scene's victim: from its files, or by attacking, training and writing them."""
    data = clean_data(scene, place)
    folder = place.scene(scene)
    if (folder / "scene.h5").exists():
        return _read_victim(scene, folder, data)
    return _new_victim(scene, place, data)


def _read_victim(scene: Scene, folder: Path, data: Clean) -> Victim:
    record = log.read(folder / "scene.h5", "scene")
    poisoned_set = unpack_train(record, data.train)
    trace_record = log.read(folder / "trace.h5", "trace")
    probe = unpack_probe(record, data.test)
    return Victim(
        trace=unpack_trace(trace_record, poisoned_set, scene.recipe, scene.seed),
        probe=probe,
        role=torch.as_tensor(record.data[names.POISON_ROLE]),
        clean=data,
        attacked=unpack_attacked(record, data.test, probe),
    )


def _new_victim(scene: Scene, place: Place, data: Clean) -> Victim:
    device = torch.device(place.device)
    with measured(device) as start_cost:
        start = make_start(scene, data.pretraining)
    recipe = replace(scene.recipe, start=start)
    crafted = _craft(scene, recipe, data, device)
    poisoned = crafted.poisoned
    with measured(device) as train_cost:
        trace = train(poisoned.train.to(device), recipe, scene.seed)
    _write_trace(scene, place, trace)

    logits = predict(trace.model(), data.test.x)
    predicted = logits.argmax(1)
    rows = choose_probe(poisoned, data.test, predicted.cpu(), scene.probe, scene.seed)
    probe = make_probe(poisoned, data.test, trace, rows)
    kept = rows_to_keep(poisoned, data.test, rows[ATTACKED], scene.seed)
    attacked = keep_attacked(poisoned, kept)

    data_sets: dict[str, Tensor | str] = {
        **pack_kind(data.train),
        **pack_truth(poisoned, trace, data.train, data.test),
        **pack_probe(probe),
        **pack_attacked(attacked, kept, data.test),
        **{names.ATTACK + name: value for name, value in crafted.told.arrays.items()},
        names.CLEAN_CORRECT: (predicted == data.test.y).sum(),
        names.CLEAN_SIZE: torch.tensor(len(data.test)),
    }
    if trace.losses is not None:
        data_sets[names.VICTIM_LOSSES] = trace.losses
    seconds = {
        "seconds_attack": crafted.cost.seconds,
        "seconds_train": train_cost.seconds,
    }
    if scene.transfer:
        seconds["seconds_pretrain"] = start_cost.seconds
    attributes: dict[str, float | str] = {
        **{f"note_{name}": value for name, value in crafted.told.figures.items()},
        **seconds,
        "peak_bytes": max(crafted.cost.peak_bytes, train_cost.peak_bytes),
        **budget_reached(scene.attack, poisoned, len(data.train)),
        "device": place.device,
        "threads": torch.get_num_threads(),
        "seed": scene.seed,
        "warnings": "\n".join(crafted.warnings),
    }
    path = place.scene(scene) / "scene.h5"
    log.write(path, "scene", config=scene.config, data=data_sets, attributes=attributes)
    return Victim(trace, probe, poisoned.role.cpu(), data, attacked)


def _craft(scene: Scene, recipe: Recipe, data: Clean, device: torch.device) -> Crafted:
    seed = derive(scene.seed, "attack")
    with measured(device) as cost, noted() as warnings, collecting() as told:
        poisoned = craft(scene.attack.value, data.train, data.test, recipe, seed)
    return Crafted(poisoned, cost, warnings, told)


def _write_trace(scene: Scene, place: Place, trace: Trace) -> None:
    path = place.scene(scene) / "trace.h5"
    about = {"device": place.device}
    log.write(
        path, "trace", config=scene.config, data=pack_trace(trace), attributes=about
    )


def budget_reached(
    attack: Method, poisoned: Poisoned, clean_rows: int
) -> dict[str, float]:
    """Returns the attributes that hold the budget asked for against the rows that were poisoned.

    Args:
        attack: whose fields `budget` and `cover`, where it has them, were asked.
        poisoned: what it returned.
        clean_rows: of the clean training set, of which all shares are.
    """
    poison = int((poisoned.role == POISON).sum())
    cover = int((poisoned.role == COVER).sum())
    kept = int((poisoned.origin >= 0).sum())
    told = {
        names.POISON_ROWS_REACHED: poison,
        names.POISON_SHARE_REACHED: poison / clean_rows,
        names.COVER_ROWS_REACHED: cover,
        names.COVER_SHARE_REACHED: cover / clean_rows,
        names.DELETED_ROWS: clean_rows - kept,
    }
    for field, name in (("budget", names.BUDGET_ASKED), ("cover", names.COVER_ASKED)):
        asked = getattr(attack.value, field, None)
        if asked is not None:
            told[name] = float(asked)
    return told
