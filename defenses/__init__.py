"""Defenses, one a file; a new one is a file and a line of its table: detectors judge test points, filters training rows."""

from defenses.activation_clustering import ActivationClustering
from defenses.deep_knn import DeepKNNFilter
from defenses.deep_partition_aggregation import DeepPartitionAggregation
from defenses.filter_retrain import FilterRetrain
from defenses.finite_aggregation import FiniteAggregation
from defenses.influence_rank import InfluenceRank
from defenses.isolation import Isolation
from defenses.loss_rank import LossRank
from defenses.norm_only import NormOnly
from defenses.perfect_filter import PerfectFilter
from defenses.random import RandomScores
from defenses.random_filter import RandomFilter
from defenses.self_influence import SelfInfluence
from defenses.spectral_signatures import SpectralSignatures
from defenses.spectre import Spectre
from defenses.support_without_the_few import SupportWithoutTheFew
from defenses.tail_heaviness import TailHeaviness
from defenses.target_driven import TargetDriven

DETECTORS: dict[str, type] = {
    "norm-only": NormOnly,
    "random": RandomScores,
    "support-without-the-few": SupportWithoutTheFew,
    "tail-heaviness": TailHeaviness,
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
    "target-driven": TargetDriven,
}
