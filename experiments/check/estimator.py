"""The checks of an influence estimator.

Shape, sign, and that scores depend on the trace and the test point alone.
"""

import time
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from experiments.check.method import METHOD, Subject
from experiments.check.verdict import Check, FindingError, require, untouched
from poisonbench.data import Dataset
from poisonbench.seeding import generator
from poisonbench.training import Recipe, train
from poisonbench.training.given.form import Given
from poisonbench.training.needs import NEEDS
from poisonbench.training.trace import Trace

RECIPE = Recipe(
    model="mlp",
    epochs=3,
    batch_size=8,
    lr=0.02,
    momentum=0.5,
    weight_decay=0.01,
    checkpoints=3,
)
SHARP = 1e-10  # residual at which a solver's answer is that of the equation


def clusters(n: int, seed: int) -> Dataset:
    """Returns n instances of three overlapping clusters in six dimensions, float64."""
    g = generator(seed, "clusters")
    y = torch.arange(n) % 3
    centres = 2 * torch.eye(3, 6, dtype=torch.float64)
    noise = torch.randn((n, 6), generator=g, dtype=torch.float64)
    return Dataset(centres[y] + noise, y, 3)


@dataclass(frozen=True)
class EstimatorSubject(Subject):
    """An estimator, and small training runs of its own: it may change them."""

    @cached_property
    def trace(self) -> Trace:
        """A training run on 30 instances that takes a fraction of a second."""
        return train(clusters(30, 0), RECIPE, 0)

    def scores(self, test: Dataset) -> Tensor:
        """Returns the scores of test points."""
        scores: Tensor = self.value.fit(self.trace)(test)
        return scores


def _runs(s: EstimatorSubject) -> str:
    start = time.perf_counter()
    scores = s.scores(clusters(5, 1))
    require(
        isinstance(scores, Tensor),
        f"the scorer returned {type(scores).__name__}, no tensor",
    )
    return f"{time.perf_counter() - start:.2f} s for 5 test and 30 training instances"


def _needs(s: EstimatorSubject) -> str:
    needs = getattr(s.value, "needs", None)
    known = ", ".join(NEEDS)
    told = f"needs is {needs!r}, not a tuple of names among {known}"
    if not isinstance(needs, tuple) or not NEEDS.keys() >= set(needs):
        raise FindingError("fail", told)
    test = clusters(5, 1)
    whole = s.scores(test)
    alone = s.value.fit(with_alone(s.trace, needs))(test)
    same = torch.allclose(whole, alone, rtol=1e-6, atol=1e-9, equal_nan=True)
    require(same, f"on a run that offers {', '.join(needs)} alone scores differ")
    return f"{', '.join(needs)}: enough for the same scores"


def with_alone(trace: Trace, needs: tuple[str, ...]) -> Trace:
    """Returns a run with nothing to offer but the final model and what is needed."""
    lacks = set(NEEDS) - set(needs)
    checkpoints = trace.checkpoints
    if "checkpoints" in lacks and "steps" in lacks:
        final = replace(checkpoints[-1], lr=float("nan"))
        checkpoints = (final,)
    recipe = trace.recipe
    if "retraining" in lacks and "steps" in lacks:
        recipe = None
    batches = trace.batches
    if "steps" in lacks:
        batches = None
    head = None if "head" in lacks else "head"
    given = Given(trace.model(), head, trace.loss, trace.weight_decay)
    return replace(
        trace, checkpoints=checkpoints, recipe=recipe, batches=batches, given=given
    )


def _shape(s: EstimatorSubject) -> str:
    for m in (5, 1, 0):
        shape = tuple(s.scores(clusters(m, 1)).shape)
        told = f"scores of {m} test points have shape {shape}, not (m, n) = ({m}, 30)"
        require(shape == (m, 30), told)
    return "(m, n) for 5, 1 and 0 test points"


def _finite(s: EstimatorSubject) -> str:
    scores = s.scores(clusters(5, 1))
    require(scores.is_floating_point(), f"scores are {scores.dtype}")
    left_out = getattr(s.value, "gives", "all") != "all"
    known = scores.isfinite()
    if left_out:
        known |= scores.isnan()
    bad = int((~known).sum())
    if bad:
        raise FindingError("warn", f"{bad} of {scores.numel()} scores are not finite")
    if left_out:
        return f"{scores.dtype}, finite where there are any"
    return f"{scores.dtype}, all finite"


def _deterministic(s: EstimatorSubject) -> str:
    test = clusters(5, 1)
    same = _same(s.scores(test), s.scores(test))
    require(same, "two fits and scores of one trace differ")
    return "two fits agree bit for bit"


def _same(scores: Tensor, others: Tensor) -> bool:
    """Whether two matrices of scores are equal, and left out in the same places."""
    return torch.allclose(scores, others, rtol=0.0, atol=0.0, equal_nan=True)


def _stateless(s: EstimatorSubject) -> str:
    test = clusters(5, 1)
    scorer = s.value.fit(s.trace)
    before = scorer(test)
    other = train(clusters(30, 2), RECIPE, 1)
    s.value.fit(other)(test)
    told = "a scorer gives other scores once the estimator was fitted to another trace"
    require(_same(scorer(test), before), told)
    return "a scorer is not changed by a later fit"


def _alone(s: EstimatorSubject) -> str:
    test = clusters(5, 1)
    order = torch.tensor([3, 0, 4])
    value = s.value
    if isinstance(getattr(value, "tolerance", None), float):
        value = replace(value, tolerance=SHARP)
    part = value.fit(s.trace)(test.take(order))
    whole = value.fit(s.trace)(test)[order]
    alike = torch.allclose(part, whole, rtol=1e-6, atol=1e-9, equal_nan=True)
    require(alike, "scores change with the other test points asked for")
    return "scores of a test point are its own"


def _untouched(s: EstimatorSubject) -> str:
    points = clusters(5, 1)
    untouched(lambda: s.scores(points), {"trace": s.trace, "points": points})
    return "trace, points and the process's global state are as they were"


def _sign(s: EstimatorSubject) -> str:
    scores = s.scores(s.trace.train)
    own = float(scores.diag().nanmean())
    mean = float(scores.nanmean())
    if not own > max(0.0, mean):
        told = f"an instance's influence on its own copy is {own:.3g} in the mean"
        raise FindingError("warn", f"{told}, on all points {mean:.3g}")
    return f"an instance helps its own copy: {own:.3g} in the mean, {mean:.3g} over all points"


ESTIMATOR: dict[str, Check] = {
    **METHOD,
    "runs": Check(
        "estimator.fit(trace) returns a scorer, scorer(test) a tensor", _runs
    ),
    "needs": Check(
        "it declares in `needs` what it asks of a run, and asks for no more", _needs
    ),
    "shape": Check("row j, column i: training instance i on test point j", _shape),
    "finite": Check(
        "scores are finite floats; NaN means: could not be computed", _finite
    ),
    "determinism": Check("equal traces give equal scores", _deterministic),
    "stateless": Check(
        "fit returns a new object and hides nothing in self", _stateless
    ),
    "alone": Check(
        "a test point's scores do not depend on the others, but within the residual of a solver "
        "(`tolerance`)",
        _alone,
    ),
    "untouched": Check(
        "it leaves the trace and the global state as they were", _untouched
    ),
    "sign": Check("positive = the instance helped the prediction", _sign),
}
