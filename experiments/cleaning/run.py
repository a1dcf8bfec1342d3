"""Running a cleaning: one log for each kind of noise and seed, whole or absent."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from experiments.cleaning.material import Material, Parts, material_of, read_parts
from experiments.cleaning.removal import retrained, seeds_of
from experiments.cleaning.scores import Judge
from experiments.plan.checks.fit import model_fault
from experiments.plan.cleaning.resolved import resolved_cleaning
from experiments.plan.cleaning.spec import Cleaning, Noise
from experiments.plan.identity import configuration, identifier
from experiments.plan.outside import version_mark
from experiments.plan.paths import Place
from experiments.runner.lock import ending_signals, exclusive
from experiments.scene.cost import measured
from poisonbench import log
from poisonbench.data import KINDS, kinds_of
from poisonbench.errors import ConfigError, LogError, LogWriteError
from poisonbench.log import names
from poisonbench.training import train

KIND = "clean"


@dataclass(frozen=True)
class Done:
    """What a cleaning did.

    Attributes:
        logs: the files of its cells that are there, noise by noise.
        failed: "cell: reason" of each that failed; it is tried again the next time.
    """

    logs: tuple[Path, ...]
    failed: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """A kind of noise and a seed."""

    noise: Noise
    seed: int


def run_cleaning(cleaning: Cleaning, place: Place, threads: int = 1) -> Done:
    """Does every kind of noise and seed that has no log yet.

    Raises:
        ConfigError: model, data and methods do not fit; told before any work.
        DataError: the data cannot be read or do not fit.
        BusyError: another run holds the folder.
        FatalError: the folder cannot be written.
        LogWriteError: a log cannot be written.
    """
    torch.set_num_threads(threads)
    with exclusive(place.folder), ending_signals():
        log.sweep(place.folder)
        parts = read_parts(cleaning.source, place)
        check_kinds(cleaning, str(parts.train.kind))
        digests = parts.digests
        text = resolved_cleaning(cleaning)
        log.write_text(place.folder / "clean.toml", text)
        logs = []
        failed = []
        for noise in cleaning.noise:
            for seed in cleaning.seeds:
                cell = Cell(noise, seed)
                config = config_of(cleaning, digests, cell)
                words = f"clean {noise.label} s{seed}"
                path = place.folder / f"{identifier(words, config)}.h5"
                try:
                    if not _is_done(path):
                        _do(cleaning, parts, cell, config, path, place.device)
                    logs.append(path)
                except (LogWriteError, MemoryError):
                    raise
                except Exception as error:  # a method or a loop of others may raise any
                    told = " ".join(str(error).split())
                    failed.append(f"{path.stem}: {type(error).__name__}: {told}")
        return Done(tuple(logs), tuple(failed))


def check_kinds(cleaning: Cleaning, kind: str) -> None:
    """Refuses methods and models that do not take the data.

    Raises:
        ConfigError: with every fault.
    """
    methods = [one.method for one in cleaning.criteria]
    methods += [one.estimator for one in cleaning.criteria if one.estimator]
    faults = [
        f"{method.name} takes no data of kind {kind}"
        for method in methods
        if kind not in kinds_of(method.value)
    ]
    why = model_fault(cleaning.recipe.model, kind)
    if why:
        faults.append(f"recipe.model: {why}; the data are of kind {kind}")
    if cleaning.recipe.augment != "none" and not KINDS[kind].flips:
        faults.append(f"recipe.augment mirrors images; the data are of kind {kind}")
    if faults:
        way = "take others: poisonbench list"
        raise ConfigError(list(dict.fromkeys(faults)), way)


def config_of(
    cleaning: Cleaning, digests: dict[str, str], cell: Cell
) -> dict[str, Any]:
    """Returns all that the results of a cell depend on, and the names that tables show."""
    recipe = configuration(cleaning.recipe)
    if cleaning.code:
        recipe["code"] = cleaning.code
    criteria = [{"label": one.name, **one.config} for one in cleaning.criteria]
    return {
        "source": {**cleaning.source.config, "sha256": digests},
        "recipe": recipe,
        "noise": {"label": cell.noise.label, **configuration(cell.noise)},
        "criteria": criteria,
        "remove": list(cleaning.remove),
        "trainings": cleaning.trainings,
        "seed": cell.seed,
        **version_mark(),
    }


def _is_done(path: Path) -> bool:
    """Whether there is a log that can be read; one that is damaged is made again."""
    try:
        log.read(path, KIND)
    except LogError:
        return False
    return True


def _do(
    cleaning: Cleaning,
    parts: Parts,
    cell: Cell,
    config: dict[str, Any],
    path: Path,
    device: str,
) -> None:
    """Trains, scores, removes, trains again, and writes the log of a cell."""
    material = material_of(cleaning, parts, cell.noise, cell.seed, device)
    with measured(torch.device(device)) as cost:
        run = train(material.train, cleaning.recipe, cell.seed)
        judge = Judge(run, material)
        found = [judge(criterion) for criterion in cleaning.criteria]
        scores = torch.stack([scored.scores for scored in found])
        right = retrained(
            material,
            scores,
            cleaning.remove,
            cleaning.recipe,
            seeds_of(cell.seed, cleaning.trainings),
        )
    told: dict[str, torch.Tensor] = {}
    warnings = []
    for number, scored in enumerate(found):
        warnings += scored.warnings
        for name, value in scored.told.items():
            told[f"{names.CRITERIA_TOLD}{number}/{name}"] = value
    log.write(
        path,
        KIND,
        config=config,
        data={
            **_rows(material),
            **told,
            names.CRITERIA_SCORE: scores,
            names.RIGHT_TEST: right.test,
            names.RIGHT_HELD_OUT: right.held_out,
        },
        attributes={
            "device": device,
            "seed": cell.seed,
            "seconds": cost.seconds,
            "diverged": right.diverged,
            "warnings": "\n".join(dict.fromkeys(warnings)),
        },
    )


def _rows(material: Material) -> dict[str, torch.Tensor]:
    return {
        names.ROW: material.row,
        names.ROW_GIVEN: material.given,
        names.ROW_LABEL: material.train.y.cpu(),
    }
