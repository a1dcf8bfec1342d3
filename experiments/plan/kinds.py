"""The kinds of stages: one row each, in the order in which a scene does them. Needs no torch.

A new kind is a row here, the classes of its methods, the function that does it, and the function
that turns its log into a row of a table: four files.
"""

from experiments.plan.kind import Kind, Length
from experiments.plan.measures import shown
from poisonbench.log import names

SCENE = Kind(
    name="scene",
    part="attack",
    methods="attacks:ATTACKS",
    numbers=(names.CLEAN_CORRECT, names.CLEAN_SIZE),
    vectors=(
        (names.PROBE_GROUP, names.PROBE_PREDICTED, names.PROBE_WANTED),
        (names.TARGETS_PREDICTED, names.TARGETS_WANTED),
        (names.POISON_ROLE, names.POISON_ORIGIN),
    ),
    rows="victims",
    evaluate="experiments.evaluation.kinds.scenes:victim",
)

TRACE = Kind("trace")

INFLUENCE = Kind(
    name="influence",
    part="estimator",
    methods="estimators:ESTIMATORS",
    do="experiments.scene.kinds.judge:estimate",
    rows="costs",
    evaluate="experiments.evaluation.kinds.scenes:cost",
    over=("attack",),
)

DETECT = Kind(
    name="detect",
    part="detector",
    methods="defenses:DETECTORS",
    estimators="if read",
    of=("attack",),
    alarm=True,
    do="experiments.scene.kinds.judge:detect",
    vectors=((names.SCORE, names.FLAG),),
    length=Length(names.SCORE, "scores", names.PROBE_GROUP, "probe points"),
    rows="detections",
    evaluate="experiments.evaluation.kinds.detection:detection",
)

FILTER = Kind(
    name="filter",
    part="filter",
    methods="defenses:FILTERS",
    estimators="if read",
    do="experiments.scene.kinds.judge:score_rows",
    vectors=((names.SCORE,),),
    length=Length(names.SCORE, "scores", names.POISON_ROLE, "training rows"),
    rows="filters",
    evaluate="experiments.evaluation.kinds.filters:identification",
)

CERTIFY = Kind(
    name="certify",
    part="certifier",
    methods="defenses:CERTIFIERS",
    do="experiments.scene.kinds.certify:certify",
    vectors=(
        (names.LABEL, names.RADIUS, names.TRUTH),
        (
            names.TARGETS_LABEL,
            names.TARGETS_RADIUS,
            names.TARGETS_Y,
            names.TARGETS_WANTED,
        ),
    ),
    rows="certificates",
    evaluate="experiments.evaluation.kinds.certificates:certificate",
)

MITIGATE = Kind(
    name="mitigate",
    part="mitigation",
    methods="defenses:MITIGATIONS",
    estimators="if read",
    of=("estimator", "detector", "filter"),
    judged=True,
    alarm=True,
    do="experiments.scene.kinds.mitigate:mitigate",
    vectors=(
        (names.REMOVED,),
        (names.TEST_BEFORE, names.TEST_AFTER),
        (names.TARGETS_BEFORE, names.TARGETS_AFTER, names.TARGETS_WANTED),
    ),
    length=Length(names.REMOVED, "verdicts", names.POISON_ROLE, "training rows"),
    rows="mitigations",
    evaluate="experiments.evaluation.kinds.mitigations:mitigation",
)

GROUP = Kind(
    name="group",
    part="group",
    methods="experiments.plan.measures.groups:GROUPS",
    estimators="if read",
    of=("estimator",),
    do="experiments.scene.kinds.groups:group_influence",
    vectors=(
        (names.GROUP_SIZE,),
        (
            names.PAIR_GROUP,
            names.EFFECT_RETRAINING,
            names.EFFECT_FIRST,
            names.EFFECT_SECOND,
        ),
    ),
    rows="groups",
    evaluate="experiments.evaluation.kinds.groups:group_effects",
    shown=shown.GROUP,
)

MEMORISATION = Kind(
    name="memorisation",
    part="memorisation",
    methods="experiments.plan.measures.memorisation:MEMORISATIONS",
    estimators="each",
    of=("estimator",),
    do="experiments.scene.kinds.memorisation:memorise",
    vectors=((names.SCORE,),),
    length=Length(names.SCORE, "scores", names.POISON_ROLE, "training rows"),
    rows="memorisations",
    evaluate="experiments.evaluation.kinds.memorisation:memorised",
    shown=shown.MEMORISATION,
)

GROUND = Kind("ground")  # models trained again, of a scene, for all of its estimators

TRUTH = Kind(
    name="truth",
    part="truth",
    methods="experiments.plan.measures.truth:TRUTHS",
    estimators="if read",
    of=("estimator",),
    do="experiments.scene.kinds.truth:judge_estimator",
    vectors=(
        (
            names.PAIR_GROUP,
            names.PAIR_POINT,
            names.EFFECT_PREDICTED,
            names.EFFECT_MEAN,
            names.EFFECT_FIRST_RUN,
            names.EFFECT_ERROR,
        ),
    ),
    rows="truths",
    evaluate="experiments.evaluation.kinds.truths:rightness",
    shown=shown.TRUTH,
)

FAILURE = Kind("failure", texts=(names.REASON,))

KINDS = (
    SCENE,
    TRACE,
    INFLUENCE,
    DETECT,
    FILTER,
    CERTIFY,
    MITIGATE,
    GROUP,
    MEMORISATION,
    GROUND,
    TRUTH,
    FAILURE,
)
WITH_METHODS = tuple(kind for kind in KINDS if kind.part)
DONE = tuple(kind for kind in KINDS if kind.do)  # by a cell, once the scene is there
# to every scene, beside estimators
APPLIED = tuple(kind for kind in DONE if kind is not INFLUENCE)
SHOWN = tuple(kind for kind in KINDS if kind.shown)  # as their row says

# what evaluation asks of a log
STAGES = {kind.name: kind.name for kind in KINDS if kind is not FAILURE} | {
    "failed": "failure"
}
PARTS = tuple(kind.part for kind in DONE)  # what a stage's configuration names
# stages judged by their scene -> what they name
JUDGED = {kind.name: kind.part for kind in DONE}
NEEDED = {kind.name: kind.needed for kind in KINDS if kind.needed}
VECTORS = {kind.name: kind.vectors for kind in KINDS}
LENGTHS = {kind.name: kind.length for kind in KINDS if kind.length}


def kind_named(name: str) -> Kind:
    """Returns the kind of that name.

    Raises:
        KeyError: there is none.
    """
    for kind in KINDS:
        if kind.name == name:
            return kind
    raise KeyError(name)
