"""Training loops and models as a user has them: Adam, BatchNorm, DataLoader."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from poisonbench.data import Dataset

EPOCHS = 2
RATE = 0.01
Entry = tuple[int, float, dict[str, Tensor]]


class Net(nn.Module):
    """A convolution with BatchNorm and two linear layers, without any name that we know."""

    def __init__(self, channels: int = 1, classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 2, 3, stride=2)
        self.norm = nn.BatchNorm2d(2)
        self.hidden = nn.LazyLinear(5)
        self.fc = nn.Linear(5, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(x)))
        return self.fc(torch.tanh(self.hidden(x.flatten(1))))


def net(data: Dataset) -> Net:
    """A new model for images, in the type of the data."""
    model = Net(data.shape[0], data.classes)
    model(data.x[:2].float())
    return model.to(data.x.dtype)


def adam(model: nn.Module, data: Dataset, seed: int) -> Iterator[Entry]:
    """An ordinary loop: it yields the live state after each epoch."""
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    loader = DataLoader(TensorDataset(data.x, data.y), batch_size=8, shuffle=True)
    step = 0
    for _ in range(EPOCHS):
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            step += 1
        yield step, RATE, model.state_dict()


def skewed(outputs: Tensor, y: Tensor) -> Tensor:
    """A loss of one's own: cross entropy, twice for the first class."""
    weights = 1 + (y == 0).to(outputs.dtype)
    return weights * F.cross_entropy(outputs, y, reduction="none")


def outside(shape: tuple[int, ...], classes: int) -> nn.Module:
    """A model for a recipe: model = 'loops_of_others:outside'."""
    model = Net(shape[0], classes)
    model(torch.zeros(2, *shape))
    return model


def nothing(model: nn.Module, data: Dataset, seed: int) -> None:
    """A loop that forgets to give what it trained."""


def diverges(model: nn.Module, data: Dataset, seed: int) -> list[Entry]:
    """A loop that leaves the numbers where the first row is among the data."""
    state = model.state_dict()
    if bool((data.y == 0).any()):
        state = {name: value * torch.nan for name, value in state.items()}
    return [(1, RATE, state)]
