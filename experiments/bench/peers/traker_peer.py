"""Scores by traker (Park et al. 2023, arXiv 2303.14186), which the extra `bench` installs.

Imported only where it is installed.
"""

import copy
import logging
import tempfile
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from trak import TRAKer

from estimators.trak import TRAK
from poisonbench.contracts.protocols import Scorer
from poisonbench.data import Dataset
from poisonbench.gradients import Form, gradient_norms
from poisonbench.memory import batches
from poisonbench.training.trace import Trace

BATCH = 128


@dataclass(frozen=True)
class Traker:
    """traker on the models that our TRAK of the same fields takes.

    Attributes:
        models: M; of more than one each was trained on a random half.
        dimensions: k.
        ridge: in mean eigenvalues of the Gram matrix at the first model, as ours; traker has 0.
        seed: of the subsets, the training and the projection.
    """

    models: int = 1
    dimensions: int = 512
    ridge: float = 0.0
    seed: int = 0

    @property
    def needs(self) -> tuple[str, ...]:
        """What it asks of a run."""
        return TRAK(models=self.models).needs

    def fit(self, trace: Trace) -> Scorer:
        """Returns the scorer (m rows) -> (m, n), which pays for all but the training."""
        ours = TRAK(models=self.models, seed=self.seed)
        models = list(ours.models_of(trace))
        return lambda test: self._scores(models, trace.train, test)

    def _scores(self, models: list[nn.Module], train: Dataset, test: Dataset) -> Tensor:
        with (
            tempfile.TemporaryDirectory() as folder,
            torch.random.fork_rng(),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            traker = TRAKer(
                model=copy.deepcopy(models[0]),
                task="image_classification",
                train_set_size=len(train),
                save_dir=folder,
                device=str(train.x.device),
                proj_dim=self.dimensions,
                projector_seed=self.seed,
                logging_level=logging.ERROR,
                use_half_precision=False,
                lambda_reg=self._penalty(models[0], train),
            )
            for number, model in enumerate(models):
                traker.load_checkpoint(model.state_dict(), model_id=number)
                for part in batches(train, BATCH):
                    traker.featurize((part.x, part.y), num_samples=len(part))
            traker.finalize_features()
            for number, model in enumerate(models):
                state = model.state_dict()
                traker.start_scoring_checkpoint("bench", state, number, len(test))
                for part in batches(test, BATCH):
                    traker.score((part.x, part.y), num_samples=len(part))
            found = torch.as_tensor(traker.finalize_scores("bench")).clone()
        return found.T.to(train.x)

    def _penalty(self, model: nn.Module, train: Dataset) -> float:
        """Returns the ridge in the units of traker: its directions have norm 1 on the mean."""
        if not self.ridge:
            return 0.0
        squares = gradient_norms(model, train, Form("margin")).square().sum()
        parameters = sum(p.numel() for p in model.parameters())
        return self.ridge * float(squares) / parameters
