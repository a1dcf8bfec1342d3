"""The protocols of all methods: what each is given, and what it returns."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor

from poisonbench.contracts.values import Certified, Evidence, Means, Mitigated, Poisoned
from poisonbench.data import Dataset
from poisonbench.training import Recipe
from poisonbench.training.trace import Trace

Scorer = Callable[[Dataset], Tensor]
RowScorer = Callable[[Dataset, range], Tensor]


@runtime_checkable
class Attack(Protocol):
    """A frozen dataclass whose fields are the hyperparameters.

    Optional members tell the checker more. Fields: `budget` and `cover`, poison and cover rows as
    fractions of the training set, and `eps`, the largest change of a pixel of a poison row, or
    the words that may differ in a sentence. Class
    attributes: `kinds` (of the data that it takes; all without it), `clean_label` (poison keeps its
    true label), `seeded` (False: equal poison for every seed), `trigger_differs` (poison rows show
    something else than the trigger at test time) and `trigger_reads_train` (its trigger is made of
    words or values of the training set). The method `trigger(x, seed)`, or
    `trigger(x, seed, train)` if it reads the training set, made the attacked points and, unless it
    differs or eps bounds them, the poison rows. An attack that lays a trigger over rows within eps
    has a method `covered(shape)`: a bool mask of that shape, of the pixels that the trigger may
    change freely.
    """

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        """Poisons `train`.

        Args:
            train: the clean training set, n0 rows.
            test: the clean test set; supplies the points to attack.
            recipe: the victim's, for a white-box surrogate.
            seed: of every draw.
        """
        ...


@runtime_checkable
class Estimator(Protocol):
    """A frozen dataclass whose fields are the hyperparameters.

    `fit` pays the upfront cost, the scorer that of each further test point. One that cannot follow
    every recipe has a method `refusal(recipe)`: why not, "" if it can, which a grid asks before any
    work. One that can score some training rows alone has a method `fit_rows(trace)`, which returns
    a scorer of blocks, (test, rows) -> (m, len(rows)), or None where its fields do not allow that:
    a grid then scores a large training set in blocks, and a run that is killed loses one of them.
    One that leaves scores out, as NaN, says in `gives` which are there: "label", of the training
    rows that carry a point's label, or "top", of its most influential rows. One whose scores are
    cosines of gradients at the final model, but for a factor, gives the factor in
    `per_cosine(trace)`: detectors do not compute these again.
    """

    def fit(self, trace: Trace) -> Scorer:
        """Returns a scorer: test (m rows) -> (m, n).

        Row j, column i: how much training instance i helped the prediction test.y[j] at test.x[j].
        Positive = helped = L(without i) - L(with i) > 0. NaN = could not be computed.
        """
        ...


@runtime_checkable
class Detector(Protocol):
    """Judges test points.

    `uses` names what it reads beyond the victim: "influence", "probe" (the other probe points),
    "reference" (probe points known to be clean), "retraining" (trains again: `evidence.means`),
    "oracle" (ground truth). `reads = "label"` says that of the influence it reads that of training
    rows alone which carry a point's label, so that an estimator may leave out the rest. `kinds`,
    where it has that, names the kinds of data that it takes; without it, all. `unit`: whether it
    takes pictures in [0, 1] alone, as one that changes them does; without it, any.
    `least_trusted`: how many points known to be clean it must be given; without it, one.
    """

    @property
    def uses(self) -> tuple[str, ...]:
        """What it reads."""
        ...

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,): larger = the prediction rests on fewer, more influential instances."""
        ...


@runtime_checkable
class LearningDetector(Detector, Protocol):
    """A detector that learns from the trusted points before it judges.

    `detector(evidence)` is `detector.fit(evidence)(evidence)`. What it learns may depend on the
    run and the trusted points alone.
    """

    def fit(self, evidence: Evidence) -> Detector:
        """Returns a detector that judges any points beside the same trusted ones."""
        ...


@runtime_checkable
class Filter(Protocol):
    """Judges training instances; `uses` as for a detector."""

    @property
    def uses(self) -> tuple[str, ...]:
        """What it reads."""
        ...

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (n,): larger = more suspicious."""
        ...


@runtime_checkable
class Certifier(Protocol):
    """Predicts with a guarantee against changes of the training set."""

    def __call__(
        self,
        train: Dataset,
        test: Dataset,
        recipe: Recipe,
        seed: int,
        scratch: Path | None = None,
    ) -> Certified:
        """Returns labels and radii for the m rows of `test`.

        Args:
            train: the training set, which may be poisoned.
            test: the m test points.
            recipe: of every model that is trained.
            seed: of every draw.
            scratch: a folder for restart blocks, or None.
        """
        ...


@runtime_checkable
class Mitigation(Protocol):
    """Takes poison out of a trained victim.

    `uses` as for a detector, and "detector" or "filter" for the verdict it works on.
    """

    @property
    def uses(self) -> tuple[str, ...]:
        """What it reads."""
        ...

    def __call__(self, evidence: Evidence, means: Means) -> Mitigated:
        """Returns the new victim. It may be the old one, with nothing removed."""
        ...
