"""The log: the only reader and writer of poisonbench's HDF5 files (schema 1).

A log is whole or absent. Its image is built in memory, written under a temporary name beside its
place, synced, and moved there, so that neither a kill nor a full disk leaves half a file; no log is
ever opened for change. All data lie under a checksum: arrays in chunks with fletcher32; scalars,
empty arrays and attributes in object headers, which HDF5 checks itself. A log is untrusted input:
before any array is read, types, sizes, links and storage are checked; every fault is one
`LogError`.

Root attributes: format, schema, kind, provenance, `complete` (last). Group `attributes`: the
attributes of the stage. Data set `config`: canonical JSON. All else is the result, under the names
of `poisonbench.log.names`. Cost: O(bytes), mostly gzip; memory for the data and the packed image.
Needs no torch.
"""

from poisonbench.log import names
from poisonbench.log.fault import advice
from poisonbench.log.placing import sweep, write_text
from poisonbench.log.provenance import (
    processor,
    processors_of,
    provenance,
    versions_here,
    versions_of,
)
from poisonbench.log.reading import parts, read, shapes
from poisonbench.log.record import (
    FORMAT,
    SCHEMA,
    Array,
    Attribute,
    Record,
    same_results,
)
from poisonbench.log.writing import write

__all__ = [
    "FORMAT",
    "SCHEMA",
    "Array",
    "Attribute",
    "Record",
    "advice",
    "names",
    "parts",
    "processor",
    "processors_of",
    "provenance",
    "read",
    "same_results",
    "shapes",
    "sweep",
    "versions_here",
    "versions_of",
    "write",
    "write_text",
]
