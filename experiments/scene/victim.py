"""One scene from data to verdicts: every stage is a function of the stages before it and ends in a file of its own.

dataset -> attack -> train -> probe (scene.h5, trace.h5) -> influence-EST.h5 -> detect-EST-DET.h5. Train once, score many.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from experiments.plan.paths import Place
from experiments.plan.spec import Scene
from experiments.scene.archive import pack_trace, unpack_trace
from experiments.scene.clean import Clean, clean_data
from experiments.scene.cost import measured, noted
from experiments.scene.probe import Probe, make_probe, pack_probe, unpack_probe
from experiments.scene.transfer import make_start
from poisonbench import log
from poisonbench.contracts.attack_rules import craft
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.models import predict
from poisonbench.notes import collecting
from poisonbench.poison_file import pack_poison, unpack_train
from poisonbench.seeding import derive
from poisonbench.training import train
from poisonbench.training.trace import Trace


@dataclass(frozen=True, eq=False)
class Victim:
    """What the stages after training work on.

    Attributes:
        trace: the training run.
        probe: the points on which it is judged.
        role: (n,) uint8 on the CPU, the ground truth of the training instances.
        clean: the scene's clean data.
        poisoned: what the attack returned, None where the victim was read back from its files.
    """

    trace: Trace
    probe: Probe
    role: Tensor
    clean: Clean
    poisoned: Poisoned | None = None

    @property
    def test(self) -> Dataset:
        """The probe with the predicted labels, where the victim was trained: all that a defense may see of it."""
        return self.probe.points.relabel(self.probe.predicted).to(self.trace.train.x.device)


def check_scene(scene: Scene, place: Place) -> None:
    """Finds before anything is trained what would stop the scene: absent data, too few rows, a given model that does not fit.

    Raises:
        DataError: see `clean_data`.
        ConfigError: see `make_start`.
    """
    data = clean_data(scene, place)
    if scene.transfer and scene.transfer.state:
        make_start(scene, data.pretraining)


def make_victim(scene: Scene, place: Place) -> Victim:
    """Returns the scene's victim and probe: from its files, or by attacking, training and writing them."""
    data = clean_data(scene, place)
    train_set, test_set = data.train, data.test
    folder = place.scene(scene)
    if (folder / "scene.h5").exists():
        record = log.read(folder / "scene.h5", "scene")
        poisoned_set = unpack_train(record, train_set)
        trace = unpack_trace(
            log.read(folder / "trace.h5", "trace"), poisoned_set, scene.recipe, scene.seed
        )
        probe, role = (
            unpack_probe(record, train_set.classes),
            torch.as_tensor(record.data["poison/role"]),
        )
        return Victim(trace, probe, role, data)
    device = torch.device(place.device)
    with measured(device) as start_cost:
        recipe = replace(scene.recipe, start=make_start(scene, data.pretraining))
    with measured(device) as attack_cost, noted() as notes, collecting() as told:
        poisoned = craft(
            scene.attack.value, train_set, test_set, recipe, derive(scene.seed, "attack")
        )
    with measured(device) as train_cost:
        trace = train(poisoned.train.to(device), recipe, scene.seed)
    log.write(
        folder / "trace.h5",
        "trace",
        config=scene.config,
        data=pack_trace(trace),
        attributes={"device": place.device},
    )
    logits = predict(trace.model(), test_set.x)
    probe = make_probe(poisoned, test_set, trace, logits, scene)
    fooled = (
        predict(trace.model(), poisoned.targets.x.to(device)).argmax(1)
        if len(poisoned.targets)
        else test_set.y[:0]
    )
    data_sets: dict[str, Tensor] = {
        f"poison/{k}": v for k, v in pack_poison(poisoned, train_set).items()
    }
    data_sets |= {f"probe/{k}": v for k, v in pack_probe(probe).items()}
    data_sets |= {"targets/origin": poisoned.target_origin, "targets/y": poisoned.targets.y}
    data_sets |= {
        "targets/wanted": poisoned.wanted,
        "targets/predicted": fooled,
        "victim/losses": trace.losses,
    }
    data_sets |= {
        "clean/correct": (logits.argmax(1) == test_set.y).sum(),
        "clean/size": torch.tensor(len(test_set)),
    }
    data_sets |= {f"attack/{k}": v for k, v in told.arrays.items()}
    about: dict[str, float | str] = {f"note_{k}": v for k, v in told.figures.items()}
    about |= {"seconds_attack": attack_cost.seconds, "seconds_train": train_cost.seconds}
    about |= {"seconds_pretrain": start_cost.seconds} if scene.transfer else {}
    about |= {
        "device": place.device,
        "threads": torch.get_num_threads(),
        "seed": scene.seed,
        "warnings": "\n".join(notes),
    }
    log.write(folder / "scene.h5", "scene", config=scene.config, data=data_sets, attributes=about)
    return Victim(trace, probe, poisoned.role.cpu(), data, poisoned)
