"""The peers that are installed, each as a function from the problem to the scores (m, n)."""

import importlib.util
import tempfile
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

if TYPE_CHECKING:
    from experiments.bench.problem import Problem


def captum(p: "Problem") -> Tensor:
    """TracInCP of captum, sample-wise gradients on."""
    from captum.influence import TracInCP

    def load(model: nn.Module, state: dict[str, Tensor]) -> float:
        model.load_state_dict(state)
        return 1.0

    tracin = TracInCP(
        model=p.models[0],
        train_dataset=TensorDataset(p.train.x, p.train.y),
        checkpoints=[{k: v.clone() for k, v in model.state_dict().items()} for model in p.models],
        checkpoints_load_func=load,
        loss_fn=nn.CrossEntropyLoss(reduction="sum"),
        batch_size=128,
        sample_wise_grads_per_batch=True,
    )
    state = {k: v.clone() for k, v in p.models[0].state_dict().items()}
    scores: Tensor = tracin.influence((p.test.x, p.test.y))
    p.models[0].load_state_dict(state)
    return scores.detach()


def kronfluence(p: "Problem") -> Tensor:
    """Pairwise scores of kronfluence with the `identity` strategy."""
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments, ScoreArguments
    from kronfluence.task import Task

    class Classification(Task):  # type: ignore[misc]
        def compute_train_loss(self, batch: Any, model: nn.Module, sample: bool = False) -> Tensor:
            del sample
            return F.cross_entropy(model(batch[0]), batch[1], reduction="sum")

        def compute_measurement(self, batch: Any, model: nn.Module) -> Tensor:
            return self.compute_train_loss(batch, model)

    import copy

    total = torch.zeros(len(p.test), len(p.train))
    sets = [TensorDataset(data.x.cpu(), data.y.cpu()) for data in (p.train, p.test)]
    for model in p.models:
        task = Classification()
        with tempfile.TemporaryDirectory() as folder:
            prepared = prepare_model(copy.deepcopy(model), task)
            analyzer = Analyzer(
                "bench",
                prepared,
                task,
                cpu=p.train.x.device.type == "cpu",
                output_dir=folder,
                disable_tqdm=True,
            )
            analyzer.fit_all_factors(
                "f",
                sets[0],
                factor_args=FactorArguments(strategy="identity"),
                per_device_batch_size=128,
            )
            analyzer.compute_pairwise_scores(
                "s",
                factors_name="f",
                query_dataset=sets[1],
                train_dataset=sets[0],
                per_device_query_batch_size=len(p.test),
                per_device_train_batch_size=128,
                score_args=ScoreArguments(damping_factor=0.0),
            )
            total += analyzer.load_pairwise_scores("s")["all_modules"]
    return total.to(p.train.x.device)


def peers() -> dict[str, "Callable[[Problem], Tensor]"]:
    """Returns the peers whose packages are installed."""
    known = {"captum": captum, "kronfluence": kronfluence}
    return {name: _quiet(run) for name, run in known.items() if importlib.util.find_spec(name)}


def _quiet(run: "Callable[[Problem], Tensor]") -> "Callable[[Problem], Tensor]":
    def call(p: "Problem") -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return run(p)

    return call
