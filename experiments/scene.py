"""One scene from data to verdicts: every stage is a function of the stages before it and ends in a file of its own.

dataset -> attack -> train -> probe (scene.h5, trace.h5) -> influence-EST.h5 -> detect-EST-DET.h5. Train once, score many.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from experiments.archive import (
    ATTACKED,
    CALIBRATION,
    MATCHED,
    RANDOM,
    Probe,
    pack_probe,
    pack_trace,
    unpack_probe,
    unpack_trace,
)
from experiments.measure import measured, noted
from experiments.spec import Place, ProbeSpec, Scene
from experiments.transfer import make_start, set_apart
from poisonbench import log
from poisonbench.contracts import Poisoned, craft
from poisonbench.data import Dataset, join, load, subset
from poisonbench.notes import collecting
from poisonbench.poison_file import pack_poison, unpack_train
from poisonbench.seeding import derive, generator
from poisonbench.trace import Trace
from poisonbench.training import predict, train


@dataclass(frozen=True, eq=False)
class Clean:
    """A scene's clean data, on its device: training and test set, and the rows set apart for pretraining, none without it."""

    train: Dataset
    test: Dataset
    pretraining: Dataset


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


def check_scene(scene: Scene, place: Place) -> None:
    """Finds before anything is trained what would stop the scene: absent data, too few rows, a given model that does not fit.

    Raises:
        DataError: see `clean_data`.
        ConfigError: see `make_start`.
    """
    data = clean_data(scene, place)
    if scene.transfer and scene.transfer.state:
        make_start(scene, data.pretraining)


def _draw(rows: Tensor, size: int, g: torch.Generator) -> Tensor:
    return rows[torch.randperm(len(rows), generator=g)[:size]]


def choose_probe(poisoned: Poisoned, clean: Dataset, predicted: Tensor, spec: ProbeSpec, seed: int) -> dict[int, Tensor]:
    """Draws the probe: rows of `poisoned.targets` for the attacked group, rows of the clean test set for all others.

    Calibration is drawn first, at random, from the test points behind none of the attacked ones; then the matched controls, those
    that the victim predicts as a label the attacker wants; then random controls. No test point serves twice.

    Args:
        poisoned: gives the attacked test points and their origins.
        clean: the m0 clean test points.
        predicted: (m0,) int64 on the CPU, the victim's labels for them.
        spec: the sizes.
        seed: of the draw.
    """
    g = generator(seed, "probe")
    attacked = _draw(torch.arange(len(poisoned.targets)), spec.attacked, g)
    origin = poisoned.target_origin.cpu()[attacked]
    free = torch.ones(len(clean), dtype=torch.bool)
    free[origin[origin >= 0]] = False
    calibration = _draw(free.nonzero().squeeze(1), min(spec.calibration, int(free.sum()) * 2 // 3), g)
    free[calibration] = False
    alike = free & torch.isin(predicted, poisoned.wanted.cpu())
    matched = _draw(alike.nonzero().squeeze(1), spec.controls // 2, g)
    free[matched] = False
    rest = _draw(free.nonzero().squeeze(1), spec.controls - len(matched), g)
    return {ATTACKED: attacked, MATCHED: matched, RANDOM: rest, CALIBRATION: calibration}


def _probe(poisoned: Poisoned, clean: Dataset, trace: Trace, logits: Tensor, scene: Scene) -> Probe:
    rows = choose_probe(poisoned, clean, logits.argmax(1).cpu(), scene.probe, scene.seed)
    attacked = rows.pop(ATTACKED)
    others = torch.cat([rows[group] for group in (MATCHED, RANDOM, CALIBRATION)])
    points = join([poisoned.targets.take(attacked), clean.take(others)])
    groups = [torch.full((len(attacked),), ATTACKED, dtype=torch.uint8)]
    groups += [torch.full((len(rows[g]),), g, dtype=torch.uint8) for g in (MATCHED, RANDOM, CALIBRATION)]
    return Probe(
        points.to("cpu"),
        predict(trace.model(), points.x).argmax(1).cpu(),
        torch.cat([poisoned.wanted.cpu()[attacked], torch.full((len(others),), -1)]),
        torch.cat([poisoned.target_origin.cpu()[attacked], others]),
        torch.cat(groups),
    )


def make_victim(scene: Scene, place: Place) -> Victim:
    """Returns the scene's victim and probe: from its files, or by attacking, training and writing them."""
    data = clean_data(scene, place)
    train_set, test_set = data.train, data.test
    folder = place.scene(scene)
    if (folder / "scene.h5").exists():
        record = log.read(folder / "scene.h5", "scene")
        poisoned_set = unpack_train(record, train_set)
        trace = unpack_trace(log.read(folder / "trace.h5", "trace"), poisoned_set, scene.recipe, scene.seed)
        probe, role = unpack_probe(record, train_set.classes), torch.as_tensor(record.data["poison/role"])
        return Victim(trace, probe, role, data)
    device = torch.device(place.device)
    with measured(device) as start_cost:
        recipe = replace(scene.recipe, start=make_start(scene, data.pretraining))
    with measured(device) as attack_cost, noted() as notes, collecting() as told:
        poisoned = craft(scene.attack.value, train_set, test_set, recipe, derive(scene.seed, "attack"))
    with measured(device) as train_cost:
        trace = train(poisoned.train.to(device), recipe, scene.seed)
    log.write(folder / "trace.h5", "trace", config=scene.config, data=pack_trace(trace), attributes={"device": place.device})
    logits = predict(trace.model(), test_set.x)
    probe = _probe(poisoned, test_set, trace, logits, scene)
    fooled = predict(trace.model(), poisoned.targets.x.to(device)).argmax(1) if len(poisoned.targets) else test_set.y[:0]
    data_sets: dict[str, Tensor] = {f"poison/{k}": v for k, v in pack_poison(poisoned, train_set).items()}
    data_sets |= {f"probe/{k}": v for k, v in pack_probe(probe).items()}
    data_sets |= {"targets/origin": poisoned.target_origin, "targets/y": poisoned.targets.y}
    data_sets |= {"targets/wanted": poisoned.wanted, "targets/predicted": fooled, "victim/losses": trace.losses}
    data_sets |= {"clean/correct": (logits.argmax(1) == test_set.y).sum(), "clean/size": torch.tensor(len(test_set))}
    data_sets |= {f"attack/{k}": v for k, v in told.arrays.items()}
    about: dict[str, float | str] = {f"note_{k}": v for k, v in told.figures.items()}
    about |= {"seconds_attack": attack_cost.seconds, "seconds_train": train_cost.seconds}
    about |= {"seconds_pretrain": start_cost.seconds} if scene.transfer else {}
    about |= {"device": place.device, "threads": torch.get_num_threads(), "seed": scene.seed, "warnings": "\n".join(notes)}
    log.write(folder / "scene.h5", "scene", config=scene.config, data=data_sets, attributes=about)
    return Victim(trace, probe, poisoned.role.cpu(), data, poisoned)
