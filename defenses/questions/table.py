"""The table of questions. The order is that in which they are asked and told."""

from defenses.baselines.class_similarity import ClassSimilarity
from defenses.baselines.confidence import Confidence
from defenses.baselines.deep_knn import DeepKNN
from defenses.baselines.scale_up import ScaleUp
from defenses.baselines.strip import Strip
from defenses.detectors.closeness import Closeness
from defenses.detectors.concentration import EffectiveCount, Gini, TopMass
from defenses.detectors.exclusive_proponents import ExclusiveProponents
from defenses.detectors.foreign_or_fragile import ForeignOrFragile
from defenses.detectors.foreign_proponents import ForeignProponents
from defenses.detectors.influence_collapse import InfluenceCollapse
from defenses.detectors.removal_by_retraining import RemovalByRetraining
from defenses.detectors.shared_proponents import SharedProponents
from defenses.detectors.support_without_the_few import SupportWithoutTheFew
from defenses.detectors.tail_heaviness import TailHeaviness
from defenses.questions.question import Question

QUESTIONS: tuple[Question, ...] = (
    # the cell's influence
    Question("tail 3", TailHeaviness(3), both=True),
    Question("tail 10", TailHeaviness(10), both=True),
    Question("tail 10 %", TailHeaviness(3, share=0.1), both=True),
    Question("top mass", TopMass(), both=True),
    Question("gini", Gini(), both=True),
    Question("effective count", EffectiveCount(), both=True),
    Question("closeness, largest", Closeness()),
    Question("closeness, mean", Closeness("mean", centred=True)),
    Question("exclusive proponents", ExclusiveProponents()),
    # influence and features
    Question("foreign proponents", ForeignProponents()),
    Question("support without the few", SupportWithoutTheFew()),
    # features
    Question("class similarity, inner", ClassSimilarity("inner"), both=True),
    Question(
        "class similarity, penultimate", ClassSimilarity("penultimate"), both=True
    ),
    Question("deep k-nn, inner", DeepKNN(layer="inner"), both=True),
    Question("deep k-nn, penultimate", DeepKNN(layer="penultimate"), both=True),
    # gradients of transformed points
    Question("collapse 1", InfluenceCollapse(transformation=1), both=True),
    Question("collapse 2", InfluenceCollapse(transformation=2), both=True),
    Question("collapse 3", InfluenceCollapse(transformation=3), both=True),
    Question("collapse", ForeignOrFragile(foreign=0.0)),
    # the model alone
    Question("strip, added", Strip(), both=True),
    Question("scale-up", ScaleUp(), both=True),
    Question("confidence", Confidence(), both=True),
)

# questions whose answer depends on the other points under judgement: for a stream of predictions
STREAM_QUESTIONS: tuple[Question, ...] = (
    Question("shared proponents", SharedProponents(closest=3)),
)

# asked by the study alone: no weights have been learned for them
FURTHER_QUESTIONS: tuple[Question, ...] = (
    Question("removal of 2 %", RemovalByRetraining(share=0.02), both=True),
    Question("removal of 10 %", RemovalByRetraining(share=0.1), both=True),
    Question("removal of 25 %", RemovalByRetraining(share=0.25), both=True),
    Question(
        "removal of 10 %, penultimate",
        RemovalByRetraining(share=0.1, layer="penultimate"),
        both=True,
    ),
    Question("strip, added, 16 overlays", Strip(16), both=True),
    Question("strip, averaged, 16 overlays", Strip(16, "average"), both=True),
    Question("shared proponents, mean", SharedProponents()),
    Question("tail 10, two-way", TailHeaviness(10, standardise="two-way"), both=True),
)

EVERY_QUESTION = QUESTIONS + STREAM_QUESTIONS + FURTHER_QUESTIONS
