"""Our estimators as an `Explainer` of quanda (Bareeva et al. 2024, arXiv 2410.07158), whose
metrics and benchmarks then judge them.

    from quanda import MislabelingDetectionMetric
    from poisonbench.peers.quanda import Influence

    metric = MislabelingDetectionMetric(
        model, train_dataset, mislabeling_indices, Influence, {"estimator": "tracin"},
        checkpoints=["epoch-5.pt", "epoch-10.pt"],
    )
    metric.compute()["score"]

Needs quanda: see the extra `quanda`.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from quanda.explainers.base import Explainer
from torch import Tensor, nn

from poisonbench.api import method_of
from poisonbench.training import Trace


class Influence(Explainer):
    """An estimator of influence on a training run, as quanda calls it.

    Attributes:
        run: the training run.
        estimator: the method.
    """

    accepted_tasks: ClassVar[list[str]] = ["image_classification"]

    def __init__(
        self,
        model: nn.Module,
        train_dataset: Any,
        estimator: Any = "tracin",
        *,
        task: Any = "image_classification",
        checkpoints: str | list[str] | None = None,
        checkpoints_load_func: Callable[[nn.Module, str], Any] | None = None,
        trace: Mapping[str, Any] = {},
        **hyperparameters: Any,
    ) -> None:
        """Reads the run and fits the estimator.

        Args:
            model: any classifier.
            train_dataset: the n training instances, pairs (instance, label).
            estimator: a name, `package.module:Class` or an estimator.
            task: of quanda.
            checkpoints: files of states in the order of training; None for the model as it is.
            checkpoints_load_func: of quanda: loads a file into a model and returns the learning
                rate. What it returns is 1 for files without one, as is the rate of a model alone.
            trace: further arguments of `Trace.of`.
            **hyperparameters: of the estimator, where it is given by name.
        """
        super().__init__(
            model=model,
            train_dataset=train_dataset,
            task=task,
            checkpoints=checkpoints,
            checkpoints_load_func=checkpoints_load_func,
        )
        states = self._states() or None
        self.run = Trace.of(model, train_dataset, states, lr=1.0, **trace)
        self.estimator = method_of("estimator", estimator, hyperparameters)
        self._score = self.estimator.fit(self.run)

    def _states(self) -> list[tuple[dict[str, Tensor], float]]:
        """Returns the state and the learning rate of each checkpoint."""
        found = []
        for path in self.checkpoints:
            module = copy.deepcopy(self.model)
            rate = self.checkpoints_load_func(module, path)
            lr = rate if isinstance(rate, int | float) else 1.0
            found.append((module.state_dict(), float(lr)))
        return found

    def explain(self, test_data: Tensor, targets: Sequence[int] | Tensor) -> Tensor:
        """Returns the influence (m, n) of every training instance on the loss of the targets.

        Args:
            test_data: (m, *shape).
            targets: (m,) labels.
        """
        train = self.run.train
        x = test_data.to(train.x.device, train.x.dtype)
        y = torch.as_tensor(targets, device=train.x.device).long()
        scores: Tensor = self._score(train.rows(x, y))
        return scores

    def self_influence(self, batch_size: int = 32) -> Tensor:
        """Returns the influence of each training instance on itself, (n,).

        Args:
            batch_size: of quanda; the estimator takes its own.
        """
        del batch_size
        scores: Tensor = self.estimator.self_influence(self.run)
        return scores
