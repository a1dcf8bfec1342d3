"""Defenses, one a file; a new one is a file and a line of its table: detectors judge test points, filters training rows."""

from defenses.activation_clustering import ActivationClustering
from defenses.class_similarity import ClassSimilarity
from defenses.concentration import EffectiveCount, Gini, TopMass
from defenses.confidence import Confidence
from defenses.deep_knn import DeepKNN, DeepKNNFilter
from defenses.deep_partition_aggregation import DeepPartitionAggregation
from defenses.filter_retrain import FilterRetrain
from defenses.finite_aggregation import FiniteAggregation
from defenses.foreign_or_fragile import ForeignOrFragile
from defenses.foreign_proponents import ForeignProponents
from defenses.foreign_support import ForeignSupport
from defenses.influence_collapse import InfluenceCollapse
from defenses.influence_rank import InfluenceRank
from defenses.isolation import Isolation
from defenses.loss_rank import LossRank
from defenses.norm_only import NormOnly
from defenses.perfect_filter import PerfectFilter
from defenses.random import RandomScores
from defenses.random_filter import RandomFilter
from defenses.removal_support import RemovalSupport
from defenses.remove_and_return import RemoveAndReturn
from defenses.scale_up import ScaleUp
from defenses.self_influence import SelfInfluence
from defenses.spectral_signatures import SpectralSignatures
from defenses.spectre import Spectre
from defenses.strip import Strip
from defenses.support_without_the_few import SupportWithoutTheFew
from defenses.tail_heaviness import TailHeaviness
from defenses.target_driven import TargetDriven

DETECTORS: dict[str, type] = {
    "class-similarity": ClassSimilarity,
    "confidence": Confidence,
    "deep-knn": DeepKNN,
    "effective-count": EffectiveCount,
    "foreign-or-fragile": ForeignOrFragile,
    "foreign-proponents": ForeignProponents,
    "foreign-support": ForeignSupport,
    "gini": Gini,
    "influence-collapse": InfluenceCollapse,
    "norm-only": NormOnly,
    "random": RandomScores,
    "removal-support": RemovalSupport,
    "scale-up": ScaleUp,
    "strip": Strip,
    "support-without-the-few": SupportWithoutTheFew,
    "tail-heaviness": TailHeaviness,
    "top-mass": TopMass,
}
FILTERS: dict[str, type] = {
    "activation-clustering": ActivationClustering,
    "deep-knn": DeepKNNFilter,
    "influence-rank": InfluenceRank,
    "isolation": Isolation,
    "loss-rank": LossRank,
    "perfect-filter": PerfectFilter,
    "random-filter": RandomFilter,
    "self-influence": SelfInfluence,
    "spectral-signatures": SpectralSignatures,
    "spectre": Spectre,
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
