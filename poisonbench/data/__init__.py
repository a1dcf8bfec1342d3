"""Data sets: two tensors each, those that are built in, and those of a user's own."""

from poisonbench.data.built_in import DATASETS
from poisonbench.data.dataset import Dataset, join, stratified, subset
from poisonbench.data.judge import check_pair, check_values
from poisonbench.data.kind import KINDS, PAD, UNKNOWN, Kind, KindName, Layout
from poisonbench.data.loading import default_root, load

__all__ = [
    "DATASETS",
    "KINDS",
    "PAD",
    "UNKNOWN",
    "Dataset",
    "Kind",
    "KindName",
    "Layout",
    "check_pair",
    "check_values",
    "default_root",
    "join",
    "load",
    "stratified",
    "subset",
]
