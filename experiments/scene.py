"""One scene from data to verdicts: every stage is a function of the stages before it and ends in a file of its own.

dataset -> attack -> train -> probe (scene.h5, trace.h5) -> influence-EST.h5 -> detect-EST-DET.h5. Train once, score many.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.archive import (
    ATTACKED,
    CALIBRATION,
    MATCHED,
    RANDOM,
    Probe,
    pack_poison,
    pack_probe,
    pack_trace,
    unpack_probe,
    unpack_trace,
    unpack_train,
)
from experiments.measure import measured, noted
from experiments.spec import Place, ProbeSpec, Scene
from poisonbench import log
from poisonbench.contracts import Poisoned, craft
from poisonbench.data import Dataset, join, load, subset
from poisonbench.seeding import derive, generator
from poisonbench.trace import Trace
from poisonbench.training import predict, train


@dataclass(frozen=True, eq=False)
class Victim:
    """What the stages after training work on."""

    trace: Trace
    probe: Probe

    @property
    def test(self) -> Dataset:
        """The probe with the predicted labels, where the victim was trained: all that a defense may see of it."""
        return self.probe.points.relabel(self.probe.predicted).to(self.trace.train.x.device)


def clean_data(scene: Scene, place: Place) -> tuple[Dataset, Dataset]:
    """Loads the scene's training and test set, cut down where the scene says so, on the device."""
    parts = load(scene.dataset.name, place.root, place.download)
    sizes = (scene.dataset.train, scene.dataset.test)
    cut = [
        part if size is None else subset(part, size, derive(scene.seed, "rows", name))
        for part, size, name in zip(parts, sizes, ("train", "test"), strict=True)
    ]
    return cut[0].to(place.device), cut[1].to(place.device)


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
    train_set, test_set = clean_data(scene, place)
    folder = place.scene(scene)
    if (folder / "scene.h5").exists():
        record = log.read(folder / "scene.h5", "scene")
        data = unpack_train(record, train_set)
        trace = unpack_trace(log.read(folder / "trace.h5", "trace"), data, scene.recipe, scene.seed)
        return Victim(trace, unpack_probe(record, data.classes))
    device = torch.device(place.device)
    with measured(device) as attack_cost, noted() as notes:
        poisoned = craft(scene.attack.value, train_set, test_set, scene.recipe, derive(scene.seed, "attack"))
    with measured(device) as train_cost:
        trace = train(poisoned.train.to(device), scene.recipe, scene.seed)
    log.write(folder / "trace.h5", "trace", config=scene.config, data=pack_trace(trace), attributes={"device": place.device})
    logits = predict(trace.model(), test_set.x)
    probe = _probe(poisoned, test_set, trace, logits, scene)
    fooled = predict(trace.model(), poisoned.targets.x.to(device)).argmax(1) if len(poisoned.targets) else test_set.y[:0]
    data_sets = {f"poison/{k}": v for k, v in pack_poison(poisoned, train_set).items()}
    data_sets |= {f"probe/{k}": v for k, v in pack_probe(probe).items()}
    data_sets |= {"targets/origin": poisoned.target_origin, "targets/y": poisoned.targets.y}
    data_sets |= {"targets/wanted": poisoned.wanted, "targets/predicted": fooled, "victim/losses": trace.losses}
    data_sets |= {"clean/correct": (logits.argmax(1) == test_set.y).sum(), "clean/size": torch.tensor(len(test_set))}
    about: dict[str, float | str] = {"seconds_attack": attack_cost.seconds, "seconds_train": train_cost.seconds}
    about |= {"device": place.device, "threads": torch.get_num_threads(), "seed": scene.seed, "warnings": "\n".join(notes)}
    log.write(folder / "scene.h5", "scene", config=scene.config, data=data_sets, attributes=about)
    return Victim(trace, probe)
