"""Data sets: two tensors each, those that are built in, and those of a user's own."""

from poisonbench.data.built_in import DATASETS, KIND_OF
from poisonbench.data.dataset import Dataset, join, stratified, subset
from poisonbench.data.judge import check_pair, check_values
from poisonbench.data.kind import KINDS, PAD, UNKNOWN, Kind, KindName, Layout, kinds_of
from poisonbench.data.loading import default_root, load

__all__ = [
    "DATASETS",
    "KINDS",
    "KIND_OF",
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
    "kinds_of",
    "load",
    "stratified",
    "subset",
]
