"""Poison as a file: what an attack returned, bound by hashes to its clean data.

The content of changed rows and of all attacked test points is stored as it is; the clean rows come
from the data set, so that it comes back bit for bit. A file is untrusted input: everything in it
is checked before it is used. Cost: O(bytes of the data set) for its hash.
"""

from poisonbench.poison_file.file import CLAIMS, KIND, read_poison, write_poison
from poisonbench.poison_file.origin import fingerprint
from poisonbench.poison_file.packing import pack_kind, pack_poison, unpack_train

__all__ = [
    "CLAIMS",
    "KIND",
    "fingerprint",
    "pack_kind",
    "pack_poison",
    "read_poison",
    "unpack_train",
    "write_poison",
]
