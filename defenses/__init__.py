"""Defenses, one per file; a new one is a file and a line of its table.

Detectors judge test points, filters training rows, mitigations train again, certifiers guarantee.
"""

from defenses.baselines.class_similarity import ClassSimilarity
from defenses.baselines.confidence import Confidence
from defenses.baselines.deep_knn import DeepKNN
from defenses.baselines.norm_only import NormOnly
from defenses.baselines.random import RandomScores
from defenses.baselines.scale_up import ScaleUp
from defenses.baselines.strip import Strip
from defenses.certifiers.deep_partition_aggregation import DeepPartitionAggregation
from defenses.certifiers.finite_aggregation import FiniteAggregation
from defenses.detectors.closeness import Closeness
from defenses.detectors.concentration import EffectiveCount, Gini, TopMass
from defenses.detectors.exclusive_proponents import ExclusiveProponents
from defenses.detectors.foreign_or_fragile import ForeignOrFragile
from defenses.detectors.foreign_proponents import ForeignProponents
from defenses.detectors.foreign_support import ForeignSupport
from defenses.detectors.influence_collapse import InfluenceCollapse
from defenses.detectors.rehearsed import Rehearsed
from defenses.detectors.removal_by_retraining import RemovalByRetraining
from defenses.detectors.removal_support import RemovalSupport
from defenses.detectors.shared_proponents import SharedProponents
from defenses.detectors.support_without_the_few import SupportWithoutTheFew
from defenses.detectors.tail_heaviness import TailHeaviness
from defenses.filters.activation_clustering import ActivationClustering
from defenses.filters.confident_learning import ConfidentLearning
from defenses.filters.deep_knn import DeepKNNFilter
from defenses.filters.influence_rank import InfluenceRank
from defenses.filters.isolation import Isolation
from defenses.filters.loss_rank import LossRank
from defenses.filters.perfect_filter import PerfectFilter
from defenses.filters.random_filter import RandomFilter
from defenses.filters.self_influence import SelfInfluence
from defenses.filters.spectral_signatures import SpectralSignatures
from defenses.filters.spectre import Spectre
from defenses.filters.unhelpful import Unhelpful
from defenses.mitigations.filter_retrain import FilterRetrain
from defenses.mitigations.remove_and_return import RemoveAndReturn
from defenses.mitigations.target_driven import TargetDriven

DETECTORS: dict[str, type] = {
    "class-similarity": ClassSimilarity,
    "closeness": Closeness,
    "confidence": Confidence,
    "deep-knn": DeepKNN,
    "effective-count": EffectiveCount,
    "exclusive-proponents": ExclusiveProponents,
    "foreign-or-fragile": ForeignOrFragile,
    "foreign-proponents": ForeignProponents,
    "foreign-support": ForeignSupport,
    "gini": Gini,
    "influence-collapse": InfluenceCollapse,
    "norm-only": NormOnly,
    "random": RandomScores,
    "rehearsed": Rehearsed,
    "removal-by-retraining": RemovalByRetraining,
    "removal-support": RemovalSupport,
    "scale-up": ScaleUp,
    "shared-proponents": SharedProponents,
    "strip": Strip,
    "support-without-the-few": SupportWithoutTheFew,
    "tail-heaviness": TailHeaviness,
    "top-mass": TopMass,
}
FILTERS: dict[str, type] = {
    "activation-clustering": ActivationClustering,
    "confident-learning": ConfidentLearning,
    "deep-knn": DeepKNNFilter,
    "influence-rank": InfluenceRank,
    "isolation": Isolation,
    "loss-rank": LossRank,
    "perfect-filter": PerfectFilter,
    "random-filter": RandomFilter,
    "self-influence": SelfInfluence,
    "spectral-signatures": SpectralSignatures,
    "spectre": Spectre,
    "unhelpful": Unhelpful,
}
CERTIFIERS: dict[str, type] = {
    "deep-partition-aggregation": DeepPartitionAggregation,
    "finite-aggregation": FiniteAggregation,
}
MITIGATIONS: dict[str, type] = {
    "filter-retrain": FilterRetrain,
    "remove-and-return": RemoveAndReturn,
    "target-driven": TargetDriven,
}
