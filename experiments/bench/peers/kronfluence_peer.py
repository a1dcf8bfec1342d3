"""Scores by kronfluence (Grosse et al. 2023, arXiv 2308.03296), which the extra `bench` installs.

Imported only where it is installed.
"""

import copy
import tempfile
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.task import Task
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from poisonbench.contracts.protocols import Scorer
from poisonbench.data import Dataset
from poisonbench.objectives import Objective, margins
from poisonbench.training.trace import Trace

BATCH = 128


class Classification(Task):  # type: ignore[misc]
    """Cross entropy in training, and the loss or the margin of the points that are explained."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def compute_train_loss(
        self, batch: Any, model: nn.Module, sample: bool = False
    ) -> Tensor:
        """Returns the sum over a batch, with labels drawn from the model where `sample` asks."""
        x, y = batch
        logits = model(x)
        if sample:
            with torch.no_grad():
                y = torch.multinomial(logits.detach().softmax(1), 1).flatten()
        return F.cross_entropy(logits, y, reduction="sum")

    def compute_measurement(self, batch: Any, model: nn.Module) -> Tensor:
        """Returns what falls as a prediction gains support, summed over a batch."""
        if self.objective == "loss":
            return self.compute_train_loss(batch, model)
        x, y = batch
        return -margins(model(x), y).sum()


@dataclass(frozen=True)
class Kronfluence:
    """Pairwise scores at the final model, in our sign; for classifiers of linear layers and
    convolutions.

    Attributes:
        strategy: "ekfac", or "identity" for dot products of gradients.
        damping_factor: as kronfluence has it; None: .1 x the mean eigenvalue of a layer.
        objective: of the points that are explained; its own example of a classifier takes margins.
        seed: of the labels that are drawn.
    """

    strategy: str = "ekfac"
    damping_factor: float | None = ScoreArguments().damping_factor
    objective: Objective = "margin"
    seed: int = 0

    def fit(self, trace: Trace) -> Scorer:
        """Returns the scorer (m rows) -> (m, n), which pays for everything."""
        return lambda test: self.scores(trace.model(), trace.train, test)

    def scores(self, model: nn.Module, train: Dataset, test: Dataset) -> Tensor:
        """Returns the scores of every training instance for every test point, (m, n)."""
        task = Classification(self.objective)
        training_set = TensorDataset(train.x.cpu(), train.y.cpu())
        points = TensorDataset(test.x.cpu(), test.y.cpu())
        with (
            tempfile.TemporaryDirectory() as folder,
            torch.random.fork_rng(),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            torch.manual_seed(self.seed)
            analyzer = Analyzer(
                "bench",
                prepare_model(copy.deepcopy(model), task),
                task,
                cpu=train.x.device.type == "cpu",
                output_dir=folder,
                disable_tqdm=True,
            )
            analyzer.fit_all_factors(
                "factors",
                training_set,
                factor_args=FactorArguments(strategy=self.strategy),
                per_device_batch_size=BATCH,
            )
            analyzer.compute_pairwise_scores(
                "scores",
                factors_name="factors",
                query_dataset=points,
                train_dataset=training_set,
                per_device_query_batch_size=len(test),
                per_device_train_batch_size=BATCH,
                score_args=ScoreArguments(damping_factor=self.damping_factor),
            )
            found: Tensor = analyzer.load_pairwise_scores("scores")["all_modules"]
        return found.to(train.x)
