"""How much a model memorises its training rows: their influence on themselves, by an estimator."""

from dataclasses import replace

import torch
from torch import Tensor

from experiments.scene.cost import measured, noted
from experiments.scene.kinds.cell import Cell, about_run, check_shape
from poisonbench.errors import ConfigError
from poisonbench.log import names
from poisonbench.notes import collecting


def memorise(cell: Cell) -> None:
    """Writes the self-influence (n,) of every training row; memorisation-EST-MEM.h5.

    Raises:
        ConfigError: the estimator has no `self_influence`.
    """
    method = cell.method("memorisation")
    estimator = cell.method("estimator")
    trace = replace(cell.victim.trace, scratch=cell.scratch)
    if not hasattr(estimator.value, "self_influence"):
        way = 'name those that have it: [[memorisation]] estimator = ["tracin"]'
        raise ConfigError(
            [f"estimator {estimator.name} has no method self_influence(trace)"], way
        )
    with noted() as warnings, collecting() as told, measured(cell.device) as cost:
        scores: Tensor = estimator.value.self_influence(trace)
    check_shape(estimator, "self-influence", scores, (len(trace.train),), "(n,)")
    scores = scores.detach().to(device="cpu", dtype=torch.float64)
    about = about_run(method, cost, warnings)
    cell.write({names.SCORE: scores}, about, told)
