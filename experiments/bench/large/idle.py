"""Loads what most commands load, and does nothing: what the memory of a command begins at."""

import torch  # noqa: F401 - that is all it does

from poisonbench import log  # noqa: F401
