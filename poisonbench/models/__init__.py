"""Models: those that are built in, the form of all others, and their predictions."""

from poisonbench.models.build import MODELS, build
from poisonbench.models.passing import predict
from poisonbench.models.pictures import Classifier

__all__ = ["MODELS", "Classifier", "build", "predict"]
