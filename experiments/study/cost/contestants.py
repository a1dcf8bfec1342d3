"""The estimators whose cost is measured, and what the table of the field says of each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from estimators.downsampling import Downsampling
from estimators.gas import GAS
from estimators.hydra import HyDRA
from estimators.influence_functions import InfluenceFunctions
from estimators.leave_one_out import LeaveOneOut
from estimators.representer_point import RepresenterPoint
from estimators.shapley.shapley import Shapley
from estimators.tracin import TracIn
from estimators.trak import TRAK
from experiments.study.cost.sizes import Sizes
from poisonbench.contracts.protocols import Estimator

Powers = Mapping[str, float]
# the smallest sizes: of what trains many models, of what walks every step, of what solves
# equations, of what passes over the data a few times, and of what factors matrices beside that
MANY_MODELS = Sizes(n=64, width=16, steps=64, models=8, m=8, batch=16)
MANY_STEPS = Sizes(n=64, width=32, steps=32, models=2, m=8, batch=16)
SOLVED = Sizes(n=256, width=32, steps=128, models=2, m=8, batch=16)
FEW_PASSES = Sizes(n=4096, width=256, steps=256, models=2, m=32, batch=128)
FACTORED = Sizes(n=2048, width=64, steps=256, models=2, m=16, batch=64)

PERMUTATIONS = 2  # at least, as they come in pairs
MODELS = 8  # times K, of Downsampling: it needs many
PROJECTIONS = 64


@dataclass(frozen=True)
class Claim:
    """The exponents of a cost, by axis; an axis that is not named has 0.

    Attributes:
        full: of the time to prepare and to score some points.
        more: of the time to score further points.
        held: of the bytes that are kept between the two.
        text: the same as the table of the field has them.
    """

    full: Powers = field(default_factory=dict)
    more: Powers = field(default_factory=dict)
    held: Powers = field(default_factory=dict)
    text: str = ""


@dataclass(frozen=True)
class Contestant:
    """An estimator whose cost is measured.

    Attributes:
        name: in the tables.
        make: K -> the estimator.
        base: the smallest sizes at which it is measured.
        axes: along which it is measured: those that it knows of.
        claim: what the table says; None where it does not have it.
    """

    name: str
    make: Callable[[int], Estimator]
    base: Sizes
    axes: tuple[str, ...] = ("n", "p", "T", "m")
    claim: Claim | None = field(default=None)


WITH_MODELS = ("n", "p", "T", "K", "m")
BY_PASSES = {"n": 1.0, "p": 1.0}

CONTESTANTS = (
    Contestant(
        name="leave-one-out",
        make=lambda _: LeaveOneOut(repeats=1),
        base=MANY_MODELS,
        claim=Claim(
            full={"n": 1.0, "T": 1.0},
            more={"n": 1.0},
            held={"n": 1.0, "p": 1.0},
            text="O(nT), O(n), O(np)",
        ),
    ),
    Contestant(
        name="downsampling",
        make=lambda k: Downsampling(models=MODELS * k),
        base=MANY_MODELS,
        axes=WITH_MODELS,
        claim=Claim(
            full={"K": 1.0, "T": 1.0},
            more={"K": 1.0},
            held={"K": 1.0, "p": 1.0},
            text="O(KT), O(K), O(Kp)",
        ),
    ),
    Contestant(
        name="Shapley, permutations",
        make=lambda k: Shapley(
            permutations=PERMUTATIONS * k, precision=0.0, measure="loss"
        ),
        base=MANY_MODELS,
        axes=WITH_MODELS,
    ),
    Contestant(
        name="Shapley, nearest neighbours",
        make=lambda _: Shapley("knn"),
        base=FEW_PASSES,
    ),
    Contestant(
        name="influence functions, cg",
        make=lambda _: InfluenceFunctions(),
        base=SOLVED,
        claim=Claim(full=BY_PASSES, more=BY_PASSES, text="O(np), O(np), O(1)"),
    ),
    Contestant(
        name="influence functions, ekfac",
        make=lambda _: InfluenceFunctions(solver="ekfac"),
        base=FACTORED,
        claim=Claim(full=BY_PASSES, more=BY_PASSES, text="O(np), O(np), O(1)"),
    ),
    Contestant(
        name="representer point",
        make=lambda _: RepresenterPoint(),
        base=SOLVED,
        claim=Claim(full={"n": 1.0}, more={"n": 1.0}, text="O(n), O(n), O(1)"),
    ),
    Contestant(
        name="TracIn, every step",
        make=lambda _: TracIn(mode="steps"),
        base=MANY_STEPS,
        claim=Claim(
            full={"n": 1.0, "p": 1.0, "T": 1.0},
            more={"n": 1.0, "p": 1.0, "T": 1.0},
            held={"p": 1.0, "T": 1.0},
            text="O(npT), O(npT), O(pT)",
        ),
    ),
    Contestant(
        name="TracIn, checkpoints",
        make=lambda _: TracIn(),
        base=FEW_PASSES,
        axes=WITH_MODELS,
        claim=Claim(
            full={"n": 1.0, "p": 1.0, "K": 1.0},
            more={"n": 1.0, "p": 1.0, "K": 1.0},
            held={"p": 1.0, "K": 1.0},
            text="O(npK), O(npK), O(pK)",
        ),
    ),
    Contestant(
        name="GAS",
        make=lambda _: GAS(),
        base=FEW_PASSES,
        axes=WITH_MODELS,
        claim=Claim(
            full={"n": 1.0, "p": 1.0, "K": 1.0},
            more={"n": 1.0, "p": 1.0, "K": 1.0},
            held={"p": 1.0, "K": 1.0},
            text="O(npK), O(npK), O(pK)",
        ),
    ),
    Contestant(
        name="HyDRA, fast",
        make=lambda _: HyDRA(),
        base=MANY_STEPS,
    ),
    Contestant(
        name="TRAK",
        make=lambda k: TRAK(models=k, source="checkpoints", dimensions=PROJECTIONS),
        base=FACTORED,
        axes=WITH_MODELS,
    ),
)
