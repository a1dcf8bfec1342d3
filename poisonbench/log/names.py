"""The names of the data sets in the logs, each with its shape and type.

Letters: n training rows, m probe points, t attacked test points, m0 clean test points, p poisoned
rows, e epochs, s steps.
Use: `from poisonbench.log import names`, then `record.data[names.POISON_ROLE]`. Needs no torch.
"""

# scene.h5 and poison files: what the instances are
KIND = "data/kind"  # text, a key of `poisonbench.data.KINDS`
VOCABULARY = "data/vocabulary"  # text, JSON: of tokens, the word of every id
COLUMNS = "data/columns"  # text, JSON: of vectors, the name of every feature

# scene.h5 and poison files: the ground truth, see `poisonbench.poison_file`
POISON_ROLE = "poison/role"  # (n,) uint8, see `poisonbench.roles`
# (n,) int64, row of the clean training set, -1: a new row
POISON_ORIGIN = "poison/origin"
POISON_ROWS = "poison/rows"  # (p,) int64, the rows whose content is stored below
# (p, *shape) float, int64 for token ids: content of those rows
POISON_X = "poison/x"
POISON_Y = "poison/y"  # (p,) int64, labels of those rows

# scene.h5, certify-*.h5, mitigate-*.h5 and poison files: the attacked test points
# (t, *shape) float, int64 for token ids: as presented
TARGETS_X = "targets/x"
TARGETS_Y = "targets/y"  # (t,) int64, true labels
TARGETS_WANTED = "targets/wanted"  # (t,) int64, the labels that the attacker wants
# (t,) int64, row of the clean test set, -1: from elsewhere
TARGETS_ORIGIN = "targets/origin"
# (k,) int64, the attacked test points whose content is stored below
TARGETS_KEPT = "targets/kept"
# (k, *shape) int, exclusive or with the bits of their clean rows
TARGETS_BITS = "targets/bits"
TARGETS_PREDICTED = "targets/predicted"  # (t,) int64, by the victim
TARGETS_BEFORE = "targets/before"  # (t,) int64, predicted before a mitigation
TARGETS_AFTER = "targets/after"  # (t,) int64, predicted after it
TARGETS_LABEL = "targets/label"  # (t,) int64, certified label
TARGETS_RADIUS = "targets/radius"  # (t,) int64, certified radius, -1: abstains

# scene.h5 and mitigate-*.h5: the probe, see `experiments.scene.probe.Probe`
# (m, *shape) float, int64 for token ids: as presented
PROBE_X = "probe/x"
PROBE_Y = "probe/y"  # (m,) int64, true labels
PROBE_PREDICTED = "probe/predicted"  # (m,) int64, by the victim
# (m,) int64, the label that the attacker wants, -1: not attacked
PROBE_WANTED = "probe/wanted"
# (m,) int64, row of the clean test set, -1: from elsewhere
PROBE_ORIGIN = "probe/origin"
PROBE_GROUP = "probe/group"  # (m,) uint8, see `poisonbench.roles`
PROBE_BEFORE = "probe/before"  # (m,) int64, predicted before a mitigation
PROBE_AFTER = "probe/after"  # (m,) int64, predicted after it

# scene.h5: the victim
VICTIM_LOSSES = "victim/losses"  # (e,) float, mean training loss of each epoch
# () int64, clean test points that the victim predicts rightly
CLEAN_CORRECT = "clean/correct"
CLEAN_SIZE = "clean/size"  # () int64, clean test points
ATTACK = "attack/"  # prefix of what the attack told by `poisonbench.notes.attach`

# scene.h5, attributes: what the attack was asked for and what it reached; shares are of the clean
# rows
BUDGET_ASKED = "budget_asked"  # float, absent where the attack has no such field
POISON_ROWS_REACHED = "poison_rows"  # int
POISON_SHARE_REACHED = "poison_share"  # float
DELETED_ROWS = "deleted_rows"  # int, clean rows left out, which the budget pays for too
COVER_ASKED = "cover_asked"  # float, absent where the attack has no such field
COVER_ROWS_REACHED = "cover_rows"  # int
COVER_SHARE_REACHED = "cover_share"  # float

# trace.h5: the training run
BATCHES = "batches"  # (s, batch size) int32, rows of every step, padded with -1
LR = "lr"  # (s,) float, learning rate of every step
LOSSES = "losses"  # (e,) float, mean training loss of each epoch
CHECKPOINTS = "checkpoints/"  # prefix of one group per checkpoint, 0000, 0001, ...
STEP = "step"  # in a checkpoint's group: () int64, steps done
SHA256 = "sha256"  # in the group of a checkpoint or start: text, digest of its state
STATE = "state/"  # in the group of a checkpoint or start: prefix of the state's tensors
START = "start"  # group of the pretrained model
START_TRAINED = "start/trained"  # text, which part of it is trained
START_SHA256 = "start/sha256"  # text, digest of its whole state

# influence-*.h5
INFLUENCE = "influence"  # (m, n) float32, positive: the row helped the prediction
# of the shape of INFLUENCE, from estimators that sample
STANDARD_ERROR = "standard_error"

# detect-*.h5 (of the m probe points) and filter-*.h5 (of the n training rows)
SCORE = "score"  # (m,) or (n,) float64, larger: more suspicious
FLAG = "flag"  # (m,) bool, above the threshold
# (m,) float64, how seldom a clean point scores so high, see `poisonbench.contracts.calibration`
P_VALUE = "p_value"

# detect-*.h5 and filter-*.h5: what learned questions tell, of q questions with f sides
ANSWERS = "answers"  # (q, m) float64, NaN where a question has no answer
SURPRISES = "surprises"  # (f, m) float64, how seldom a trusted point answers so
WEIGHTS = "weights"  # (f,) float64

# filter-*.h5 and clean-*.h5: what filters tell beside the score, those that know it; (n,)
SUSPECT = "suspect"  # bool, the filter itself marks the row
MEAN_INFLUENCE = "mean_influence"  # float, on the points known to be clean
AGREEMENT = "agreement"  # float, share of their parts that agree in its sign
OWN_PROBABILITY = "own_probability"  # float, of the label, without the row in training
OTHER_LABEL = "other_label"  # int64, the most probable other label

# clean-*.h5: of q criteria, k shares of the n rows, r trainings, m0 test points, h held-out points
ROW = "row/number"  # (n,) int64, row of the training set that was given
ROW_GIVEN = "row/given"  # (n,) int64, its label there
ROW_LABEL = (
    "row/label"  # (n,) int64, the label trained on; another one is planted noise
)
CRITERIA_SCORE = "criteria/score"  # (q, n) float64, larger: removed earlier
# prefix: number of the criterion and what it tells, such as criteria/told/0/suspect
CRITERIA_TOLD = "criteria/told/"
RIGHT_TEST = "right/test"  # (q, k, r, m0) bool, test points predicted rightly
RIGHT_HELD_OUT = "right/held_out"  # (q, k, r, h) bool, likewise held-out points

# certify-*.h5: the clean test set
LABEL = "label"  # (m0,) int64, certified label
RADIUS = "radius"  # (m0,) int64, certified radius, -1: abstains
TRUTH = "truth"  # (m0,) int64, true label

# mitigate-*.h5
# (n,) bool, the training rows that the new victim no longer rests on
REMOVED = "removed"
TEST_BEFORE = "test/before"  # (m0,) bool, clean test points predicted rightly before
TEST_AFTER = "test/after"  # (m0,) bool, and after

# group-*.h5: s groups of training rows, q pairs of a group and a probe point
GROUP_ROWS = "group/rows"  # (s, n) bool, the rows of each group
GROUP_SIZE = "group/size"  # (s,) int64
PAIR_GROUP = "pair/group"  # (q,) int64, in [0, s)
PAIR_POINT = "pair/point"  # (q,) int64, row of the probe
# (q,) float64, loss without the group less loss with it
EFFECT_RETRAINING = "effect/retraining"
EFFECT_FIRST = "effect/first"  # (q,) float64, estimated to first order
EFFECT_SECOND = "effect/second"  # (q,) float64, estimated to second order

# truth-*.h5: s sets of training rows, q pairs of each set and each point, sets first, with
# PAIR_GROUP and PAIR_POINT
EFFECT_PREDICTED = "effect/predicted"  # (q,) float64, summed influence
EFFECT_MEAN = "effect/mean"  # (q,) float64, of the trainings on the set
EFFECT_FIRST_RUN = "effect/first_run"  # (q,) float64, of the first training
# (q,) float64, standard error of the mean, without noise that all sets share; NaN of one training
EFFECT_ERROR = "effect/error"

# ground-*.h5: GROUP_ROWS, the rows that stay, and of r trainings on each of the s sets
EFFECT_RUNS = "effect/runs"  # (r, s, points) float64

# memorisation-*.h5 holds SCORE: (n,) float64, the influence of every training row on itself

# failed-*.h5
REASON = "reason"  # text, a line
TRACEBACK = "traceback"  # text
