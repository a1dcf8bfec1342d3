"""The gradient engine: dot products of per-example gradients of n training and m test instances.

An (n, p) matrix is never held: one forward and one backward pass to the layers' outputs for a
batch; every layer then adds its share of the (B, m) products. Cost of a call: forward and backward
over the n + m instances, plus at most 2 n m p flops of matrix product.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from poisonbench.data import Dataset
from poisonbench.device.precision import BF16, asked
from poisonbench.gradients.backprop import per_example, projections
from poisonbench.gradients.forms import Scaled
from poisonbench.gradients.passes import Plan, Vectors
from poisonbench.gradients.planning.lowered import PROBED, lowered
from poisonbench.gradients.planning.plan import plan
from poisonbench.gradients.selection import RAW, Form
from poisonbench.gradients.sides import join_sides, multiply
from poisonbench.memory import Budget, batches, halving, room
from poisonbench.seeding import exact_arithmetic

# is shown the place of the first of B training instances, and the inputs of layers, each (B, ...)
SeenRows = Callable[[int, Mapping[str, Tensor]], None]


@dataclass(frozen=True, eq=False)
class _Engine:
    """A model, its plan, and the form of the gradients."""

    model: nn.Module
    how: Plan
    form: Form

    def passes(
        self,
        data: Dataset,
        size: int,
        against: int,
        seen: SeenRows | None = None,
    ) -> Iterator[Iterator[Scaled]]:
        """Yields the gradients of `size` instances at a time, to be multiplied with `against`."""
        rescale = self.form.renormalize != "none"
        for place, batch in enumerate(batches(data, size)):
            shown = None if seen is None else partial(seen, place * size)
            yield per_example(
                self.model, self.how, batch, self.form.seeds, against, rescale, shown
            )

    def products(
        self,
        train: Dataset,
        test: Dataset,
        size: int,
        seen: SeenRows | None,
    ) -> Tensor:
        """Returns the products (m, n) for a block of m test instances, `size` instances a pass."""
        renormalize = self.form.renormalize
        side = join_sides(self.passes(test, size, len(test)), renormalize)

        def rows(size: int) -> Tensor:
            # products kept one by one would lie between what passes take and give back, and pin it
            found = test.zeros(len(train), len(test))
            start = 0
            for pairs in self.passes(train, size, len(test), seen):
                products = multiply(pairs, side, renormalize)
                stop = start + len(products)
                found[start:stop] = products
                start = stop
            return found

        return halving(rows, size).T

    def norms(self, data: Dataset) -> Tensor:
        """Returns the norms of every layer's gradients, (layers, B) in float64."""
        pairs = per_example(
            self.model, self.how, data, self.form.seeds, 1, rescale=True
        )
        return torch.stack([g.norm().double() * s for g, s in pairs if s is not None])


def dot_products(
    model: nn.Module,
    train: Dataset,
    test: Dataset,
    form: Form = RAW,
    budget: Budget | None = None,
    seen: SeenRows | None = None,
) -> Tensor:
    """Returns <g_j, g_i> for every test instance j and training instance i, (m, n).

    Args:
        model: in evaluation mode, on the device and in the dtype of the data. Parameters with
            requires_grad=False are left out.
        train: n instances.
        test: m instances; gradients are taken at the labels given.
        form: which gradients.
        budget: None chooses by device. When the device runs out of memory, blocks are halved and
            the call goes on.
        seen: is shown the inputs of layers, by name, as the training instances pass: for what else
            asks for them. With the place of the first of them, in order; again where blocks of test
            points pass the training set anew.

    Raises:
        ModelError: (a ValueError) the model is in training mode, has nothing to differentiate, or
            cannot be differentiated instance by instance; see `planning.plan`. Or "bf16" is asked
            for, and changes it; see `planning.lowered`.
        ConfigError: "bf16" is asked for data that are not in float32.
    """
    if not len(train) or not len(test):
        return test.zeros(len(test), len(train))
    with exact_arithmetic():
        how = plan(model, form.layers, torch.cat([train.x[:2], test.x[:1]]))
        if asked() == BF16:
            model, how = lowered(model, how, batches(test, PROBED)[0])
        engine = _Engine(model, how, form)
        block, batch = room(test, how.size, budget, how.widest, how.kind_of(test))

        def blocks(size: int) -> Tensor:
            parts = batches(test, size)
            found = [engine.products(train, part, batch, seen) for part in parts]
            return torch.cat(found)

        return halving(blocks, min(block, len(test)))


def layer_norms(
    model: nn.Module,
    data: Dataset,
    form: Form = RAW,
    budget: Budget | None = None,
) -> Tensor:
    """Returns the norm of every layer's share of every instance's gradient, in float64.

    Arguments and errors as for `dot_products`.

    Returns:
        (layers, n).
    """
    with exact_arithmetic():
        how = plan(model, form.layers, data.x)
        engine = _Engine(model, how, form)
        _, batch = room(data, how.size, budget, how.widest)

        def blocks(size: int) -> Tensor:
            return torch.cat([engine.norms(part) for part in batches(data, size)], 1)

        return halving(blocks, batch)


def gradient_norms(
    model: nn.Module,
    data: Dataset,
    form: Form = RAW,
    budget: Budget | None = None,
) -> Tensor:
    """Returns |g_i| for every instance, (n,).

    Arguments and errors as for `dot_products`; `form.renormalize` has no meaning.
    """
    norms: Tensor = torch.linalg.vector_norm(
        layer_norms(model, data, form, budget), dim=0
    )
    return norms.to(data.dtype)


def project(
    model: nn.Module,
    data: Dataset,
    vectors: Vectors,
    form: Form = RAW,
    budget: Budget | None = None,
) -> Tensor:
    """Returns <v_j, g_i> for m vectors v_j in parameter space and every instance i, (m, n).

    Args:
        model: in evaluation mode.
        data: n instances.
        vectors: parameter name -> (m, *shape), such as `gradient_vectors` returns, for the names
            of `parameter_names`; m should be what fits into memory.
        form: objective and layers of the gradients g_i; `form.renormalize` has no meaning.
        budget: None chooses by device.

    Raises:
        ModelError: as for `dot_products`.
    """
    with exact_arithmetic():
        how = plan(model, form.layers, data.x)
        _, batch = room(data, how.size, budget, how.widest)

        def rows(size: int) -> Tensor:
            parts = batches(data, size)
            found = [
                projections(model, how, part, vectors, form.seeds) for part in parts
            ]
            return torch.cat(found)

        return halving(rows, batch).T
