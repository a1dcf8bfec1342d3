"""The stages after training: influence of every training instance on the probe, and a detector's verdict on it."""

from dataclasses import replace

import torch
from torch import Tensor

from experiments.archive import CALIBRATION
from experiments.measure import measured, noted
from experiments.scene import Victim
from experiments.spec import Method, Place, Scene, key
from poisonbench import log
from poisonbench.contracts import Evidence
from poisonbench.notes import collecting


def estimate(scene: Scene, method: Method, victim: Victim, place: Place) -> Tensor:
    """Returns the influence (m, n) of every training instance on every probe point, and writes influence-EST.h5."""
    device = victim.trace.train.x.device
    trace = replace(victim.trace, scratch=place.scene(scene) / "scratch" / key(method))
    with noted() as notes, collecting() as told:
        with measured(device) as fit:
            scorer = method.value.fit(trace)
        with measured(device) as score:
            influence: Tensor = scorer(victim.test)
    want = (len(victim.test), len(victim.trace.train))
    if tuple(influence.shape) != want:
        raise ValueError(f"{method.name} returned influence of shape {tuple(influence.shape)}, not (m, n) = {want}")
    influence = influence.to(device="cpu", dtype=torch.float32)
    attributes = {"fit_seconds": fit.seconds, "score_seconds": score.seconds, "peak_bytes": max(fit.peak_bytes, score.peak_bytes)}
    log.write(
        place.influence(scene, method),
        "influence",
        config={"scene": scene.config, "estimator": method.config},
        data={**told.arrays, "influence": influence},
        attributes={
            **{f"note_{k}": v for k, v in told.figures.items()},
            **attributes,
            "warnings": "\n".join(notes),
            "device": str(device),
            "seed": scene.seed,
        },
    )
    return influence


def read_influence(scene: Scene, method: Method, place: Place) -> Tensor:
    """Returns the influence (m, n) that `estimate` wrote."""
    return torch.as_tensor(log.read(place.influence(scene, method), "influence").data["influence"])


def detect(
    scene: Scene, estimator: Method | None, method: Method, victim: Victim, influence: Tensor | None, place: Place, alarm: float
) -> None:
    """Scores every probe point and writes detect-EST-DET.h5.

    The flags are the scores above the 1 - alarm quantile of the calibration points; without a finite calibration score there
    are none. A detector that is fitted to clean points gets half of them, and the other half sets its threshold: on the points
    that it was fitted to its scores would be too low.
    """
    trace, device = victim.trace, victim.trace.train.x.device
    calibration = victim.probe.group == CALIBRATION
    trusted = calibration & (calibration.cumsum(0) <= calibration.sum() // 2)  # drawn at random, so any half will do
    trusted &= "reference" in method.value.uses
    evidence = Evidence(
        trace,
        victim.test,
        None if influence is None else influence.to(device),
        trusted.to(device) if "reference" in method.value.uses else None,
    )
    with noted() as notes, measured(device) as cost:
        scores: Tensor = method.value(evidence)
    if tuple(scores.shape) != (len(victim.test),):
        raise ValueError(f"{method.name} returned scores of shape {tuple(scores.shape)}, not (m,) = ({len(victim.test)},)")
    scores = scores.to(device="cpu", dtype=torch.float64)
    clean = scores[calibration & ~trusted]
    clean = clean[clean.isfinite()]
    threshold = float(clean.quantile(1 - alarm, interpolation="higher")) if len(clean) else torch.inf
    methods = {"estimator": estimator and estimator.config, "detector": method.config}
    about: dict[str, float | str] = {"seconds": cost.seconds, "threshold": threshold, "alarm": alarm, "seed": scene.seed}
    about |= {"uses": ",".join(method.value.uses), "warnings": "\n".join(notes), "device": str(device)}
    methods = {"estimator": estimator and estimator.config, "detector": method.config}
    log.write(
        place.detect(scene, estimator, method, alarm),
        "detect",
        config={"scene": scene.config, **methods, "alarm": alarm},
        data={"score": scores, "flag": scores > threshold},
        attributes=about,
    )
