"""The peers that are installed, each as a function from the problem to the scores (m, n)."""

import importlib.util
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

if TYPE_CHECKING:
    from experiments.bench.problem import Problem

# of captum: on a CPU the fastest of 16, 32, 64 and 128 for the residual net
BATCHES = {"cpu": 64, "cuda": 128}


def captum(p: "Problem") -> Tensor:
    """TracInCP of captum, sample-wise gradients on."""
    from captum.influence import TracInCP

    def load(model: nn.Module, state: dict[str, Tensor]) -> float:
        model.load_state_dict(state)
        return 1.0

    tracin = TracInCP(
        model=p.models[0],
        train_dataset=TensorDataset(p.train.x, p.train.y),
        checkpoints=[_state(model) for model in p.models],
        checkpoints_load_func=load,
        loss_fn=nn.CrossEntropyLoss(reduction="sum"),
        batch_size=BATCHES[p.train.x.device.type],
        sample_wise_grads_per_batch=True,
    )
    before = _state(p.models[0])
    scores: Tensor = tracin.influence((p.test.x, p.test.y))
    p.models[0].load_state_dict(before)
    return scores.detach()


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def kronfluence(p: "Problem") -> Tensor:
    """Pairwise scores of kronfluence with the `identity` strategy."""
    from experiments.bench.peers.kronfluence_peer import Kronfluence

    peer = Kronfluence("identity", damping_factor=0.0, objective="loss")
    scores = [peer.scores(model, p.train, p.test) for model in p.models]
    return torch.stack(scores).sum(0)


def peers() -> dict[str, "Callable[[Problem], Tensor]"]:
    """Returns the peers whose packages are installed."""
    known = {"captum": captum, "kronfluence": kronfluence}
    return {
        name: _quiet(run)
        for name, run in known.items()
        if importlib.util.find_spec(name)
    }


def _quiet(run: "Callable[[Problem], Tensor]") -> "Callable[[Problem], Tensor]":
    def call(p: "Problem") -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return run(p)

    return call
