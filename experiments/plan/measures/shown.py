"""The tables of what a grid measures: their columns, and what these mean. Needs no torch."""

from experiments.plan.kind import Column, Shown

GROUP = Shown(
    title="GROUPS",
    legend="What a group of training rows gives the prediction of a probe point: its loss "
    "without them less its loss with them, by training again (retrained) and by estimates of "
    "first and second order. rank 1, rank 2: Spearman's correlation of the estimates with "
    "retraining, over all pairs of a group and a point. rows: of a group; s: seconds. In "
    "brackets behind a choice of rows: what it takes beyond the victim.",
    columns=(
        Column("rows", "size", ".4g"),
        Column("retrained", "retraining", ".3g"),
        Column("first", "first", ".3g"),
        Column("second", "second", ".3g"),
        Column("rank 1", "rank_first", ".2f"),
        Column("rank 2", "rank_second", ".2f"),
        Column("s", "seconds", "s"),
    ),
    counts=("pairs",),
)

MEMORISATION = Shown(
    title="MEMORISATION",
    legend="Self-influence: what a training row gives its own prediction. AUROC, AUPRC: how "
    "well it tells poison rows from clean ones. median: of the poison and of the clean rows, "
    "as a share of the largest value of all rows; s: seconds.",
    columns=(
        Column("AUROC", "auroc"),
        Column("AUPRC", "auprc"),
        Column("median poison", "median_poison", ".2g"),
        Column("median clean", "median_clean", ".2g"),
        Column("s", "seconds", "s"),
    ),
    counts=("poison", "clean"),
)

TRUTH = Shown(
    title="TRUTH",
    legend="How right an estimator is: Spearman's correlation, over sets of training rows, of "
    "the sets' summed influence with what training again says, on the mean over the points. "
    "datamodeling: the margin of models trained on random halves; left-out: what it loses "
    "without a group. one run: with a single training per set; reliable: share of the variance "
    "over the sets that is no noise of the trainings; corrected: score / sqrt(reliable). s: "
    "seconds of all trainings, shared by the estimators of a scene.",
    columns=(
        Column("score", "score"),
        Column("one run", "single"),
        Column("reliable", "reliability", ".2f"),
        Column("corrected", "corrected"),
        Column("s", "seconds", "s"),
    ),
    counts=("points", "sets"),
)
