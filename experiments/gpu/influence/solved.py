"""The dear estimators on the cnn: exact HyDRA, block conjugate gradients, EK-FAC."""

from dataclasses import replace
from functools import partial

from estimators.hydra import HyDRA
from estimators.influence_functions import InfluenceFunctions
from experiments.gpu.influence.scores import cost
from experiments.gpu.record import Found
from experiments.gpu.setting import ROWS, Setting
from poisonbench.contracts.protocols import Estimator
from poisonbench.training import Recipe, train

ESTIMATORS: dict[str, tuple[Estimator, int, int]] = {  # with n and m
    "ekfac": (InfluenceFunctions(solver="ekfac"), ROWS, 100),
    "cg": (InfluenceFunctions(), 10_000, 20),
    "hydra, exact": (HyDRA(hessian=True), 10_000, 20),
    "hydra, fast": (HyDRA(), 10_000, 20),
}
RECIPE = Recipe(model="cnn", epochs=1, batch_size=128, lr=0.01, checkpoints=1)


def solved(setting: Setting, found: Found) -> None:
    """Seconds of fit and scores, and memory, by estimator; the run is an epoch."""
    for name, (estimator, n, m) in ESTIMATORS.items():
        data = setting.rows(n)
        recipe = replace(RECIPE, model=setting.model(RECIPE.model))
        if setting.small:
            recipe = replace(recipe, batch_size=16)
        trace = train(data, recipe, 0)
        test = setting.points(m)
        scorer = estimator.fit(trace)
        spent: Found = {"n": len(data), "m": len(test)}
        spent["steps"] = trace.checkpoints[-1].step
        cost(setting, spent, "fit", partial(estimator.fit, trace))
        cost(setting, spent, "scores", partial(scorer, test))
        found[name] = spent
