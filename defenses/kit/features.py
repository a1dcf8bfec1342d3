"""What defenses that look at the victim's features share: the features, and one class at a time."""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from defenses.kit.evidence import Shared, once
from poisonbench.checks import check_choice
from poisonbench.contracts.values import Evidence
from poisonbench.data import Dataset
from poisonbench.models import predict
from poisonbench.models.head import Body, body_of
from poisonbench.models.inner import inner_of
from poisonbench.seeding import generator
from poisonbench.training.trace import Trace

_ROWS = 1024  # that are projected together
Layer = Literal["inner", "penultimate"]


def check_layer(layer: str) -> None:
    """Raises ValueError for an unknown layer."""
    check_choice("layer", layer, get_args(Layer))


def encoder(model: nn.Module, layer: Layer) -> nn.Module:
    """Returns the part of `model` whose outputs are compared.

    Args:
        model: a body followed by a head.
        layer: "penultimate": what leaves `features`; "inner": what enters the last layer with
            parameters of `features`, where that is an nn.Sequential with such a layer. The last
            hidden layer often shows the prediction alone; the layer below still tells inputs apart.
            In a model that was built elsewhere that is `poisonbench.models.inner`.
    """
    features = body_of(model)
    if layer == "inner" and isinstance(features, Body):
        return inner_of(features)
    if layer != "inner" or not isinstance(features, nn.Sequential):
        return features
    return features[: _last_trained(features)]


def _last_trained(features: nn.Sequential) -> int:
    """Returns the place of the last layer with parameters, the number of layers without one."""
    last = len(features)
    for place, part in enumerate(features):
        if list(part.parameters()):
            last = place
    return last


def features_of(trace: Trace, layer: Layer, data: Dataset) -> Tensor:
    """Returns the final model's features of the n instances of `data`, (n, d)."""
    encode = encoder(trace.model(), layer)
    return predict(encode, data.x).flatten(1)


def row_features(evidence: Evidence, layer: Layer) -> Tensor:
    """Returns the features of the training rows, (n, d); computed once on shared evidence."""
    return _of_layer(evidence, layer, evidence.trace.train)


def point_features(evidence: Evidence, layer: Layer) -> Tensor:
    """Returns the features of the test points, (m, d); computed once on shared evidence."""
    return _of_layer(evidence, layer, evidence.test)


def _of_layer(evidence: Evidence, layer: Layer, data: Dataset) -> Tensor:
    """Returns the features of `data`, (rows, d); on shared evidence those of one pass."""
    trace = evidence.trace
    if not isinstance(evidence, Shared):
        return features_of(trace, layer, data)
    body = body_of(trace.model())
    if layer == "inner" or not isinstance(body, nn.Sequential):
        return _kept(evidence, layer, data).flatten(1)
    inner = _kept(evidence, "inner", data)
    place = _last_trained(body)
    above = body[place:]
    key = ("features", trace, layer, data)
    return once(evidence, key, lambda: predict(above, inner).flatten(1))


def _kept(evidence: Shared, layer: Layer, data: Dataset) -> Tensor:
    """Returns the outputs of `encoder`, (rows, *shape), computed once."""
    trace = evidence.trace
    return once(
        evidence,
        _key(trace, layer, data),
        lambda: predict(encoder(trace.model(), layer), data.x),
    )


def _key(trace: Trace, layer: Layer, data: Dataset) -> Hashable:
    """Returns by what the outputs of an encoder are known."""
    return ("outputs", trace, layer, data)


def knows_rows(evidence: Shared) -> bool:
    """Tells whether the inner features of the training rows have been computed."""
    trace = evidence.trace
    return _key(trace, "inner", trace.train) in evidence.kept


@dataclass(frozen=True, eq=False)
class Passing:
    """The inner features of training rows, kept as the rows pass through the model for a gradient.

    Attributes:
        layer: name of the layer that is given the features; "" where none is.
        rows: n, of the training set.
        kept: the features of the rows that have passed (n, *shape); none at first.
        passed: (n,) bool, which those are.
    """

    layer: str
    passed: Tensor
    kept: list[Tensor] = field(default_factory=list)

    @classmethod
    def of(cls, trace: Trace) -> "Passing":
        """Returns that of a run of which no row has passed yet."""
        model = trace.model()
        passed = torch.zeros_like(trace.train.y, dtype=torch.bool)
        body = body_of(model)
        if not isinstance(body, nn.Sequential) or _last_trained(body) == len(body):
            return cls("", passed)
        given = body[_last_trained(body)]
        names = [name for name, module in model.named_modules() if module is given]
        return cls(names[0], passed)

    def seen(self, rows: Tensor, start: int, inputs: Mapping[str, Tensor]) -> None:
        """Keeps the features of some rows.

        Args:
            rows: (r,) int64, those that pass.
            start: place of the first of B of them.
            inputs: of layers, by name, each (B, ...).
        """
        given = inputs.get(self.layer)
        if given is None:
            return
        if not self.kept:
            self.kept.append(given.new_empty(len(self.passed), *given.shape[1:]))
        its = rows[start : start + len(given)]
        self.kept[0].index_copy_(0, its, given)
        self.passed[its] = True

    def leave(self, evidence: Shared) -> None:
        """Leaves the features of all rows to those who ask `evidence`; of none that passed, none.

        Rows that have not passed are passed now.
        """
        if not self.kept:
            return
        trace = evidence.trace
        train = trace.train
        missing = (~self.passed).nonzero().squeeze(1)
        if len(missing):
            encode = encoder(trace.model(), "inner")
            self.kept[0][missing] = predict(encode, train.x[missing])
        once(evidence, _key(trace, "inner", train), lambda: self.kept[0])


def narrowed(
    rows: Tensor,
    points: Tensor,
    width: int,
) -> tuple[Tensor, Tensor]:
    """Returns features of rows (n, d) and points (m, d), of more than `width` projections alone.

    Those keep distances on the mean (Johnson & Lindenstrauss, 1984). They are taken from the mean
    of the rows, and are the same for all features of one d.
    """
    d = rows.shape[1]
    if d <= width:
        return rows, points
    g = generator(0, "projection", d, width)
    drawn = torch.randn((d, width), generator=g, dtype=torch.float64)
    onto = drawn.to(rows) / width**0.5
    middle = rows.mean(0)
    of_rows = []
    for part in rows.split(_ROWS):
        apart = part - middle
        of_rows.append(apart @ onto)
    return torch.cat(of_rows), (points - middle) @ onto


def class_masks(labels: Tensor, least: int = 2) -> Iterator[Tensor]:
    """Yields the rows of each class, (n,) bool; classes with fewer rows than `least` are left out.

    Args:
        labels: (n,) int64.
        least: rows that a class must have.
    """
    for label in labels.unique():
        own = labels == label
        if int(own.sum()) >= least:
            yield own


def centred(rows: Tensor) -> Tensor:
    """Returns the rows (r, d) minus their mean; exactly 0 where they differ by rounding alone."""
    apart = rows - rows.mean(0)
    rounding = torch.finfo(rows.dtype).eps
    floor = rows.abs().max() * rounding * len(rows) ** 0.5
    if bool(apart.abs().max() > floor):
        return apart
    return torch.zeros_like(apart)
