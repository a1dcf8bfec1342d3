"""The plan of a model: which parameters are differentiated, and how each one's gradients are had.

Made by testing (`check.py`), once for a structure of the model (`structure.py`): the checkpoints
of a run, called block by block, share the test.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

from torch import Tensor, nn

from poisonbench.device.precision import asking
from poisonbench.functional import places
from poisonbench.gradients.embedding import spared
from poisonbench.gradients.layers import supported
from poisonbench.gradients.passes import Layers, Plan
from poisonbench.gradients.planning.check import (
    Probe,
    check_companions,
    draw,
    layout_is_free,
)
from poisonbench.gradients.planning.names import member, parameter_names
from poisonbench.gradients.planning.reach import check_reach
from poisonbench.gradients.planning.refusals import refuse_modes
from poisonbench.gradients.planning.rules import vmap_is_right, widest, wrong_rules
from poisonbench.gradients.planning.structure import structure
from poisonbench.gradients.planning.watching import Usable, usable, uses
from poisonbench.notes import note
from poisonbench.seeding import exact_arithmetic

ROWS = 3  # instances on which the rules are tested
KEPT = 64  # structures whose test is remembered
NAMED = 20  # layers that a note names


@dataclass(frozen=True)
class Verdict:
    """What the test of a structure found; fields as in `Plan`.

    Attributes:
        layers: those whose rule is right.
        spared: number of entries of tables that no gradient holds, as it looks up few rows.
        moved: layers that have a rule by their type, which is not right in this model.
        lasting: it holds for all models of the structure; not where the numbers were not finite.
    """

    layers: Usable
    rest: tuple[str, ...]
    vectorised: bool
    pixelwise: bool
    spared: int
    moved: tuple[str, ...]
    lasting: bool


_verdicts: OrderedDict[Hashable, Verdict] = OrderedDict()


def plan(
    model: nn.Module,
    layers: Layers,
    x: Tensor,
    rules: bool = True,
) -> Plan:
    """Sorts the trained parameters of `model` by how their per-example gradients are had.

    Layers with a rule whose rule is not right in this model are told in the log, by a note.

    Args:
        model: in evaluation mode.
        layers: "all" parameters, or "last" for the head's.
        x: (B, *shape) instances of the data, of which the first three are for tests.
        rules: False: no layer's rule is used, so that the gradients are whole.

    Raises:
        ModelError: (a ValueError) a layer is in training mode, a row's result depends on the rows
            beside it, nothing is to be differentiated, or something cannot be.
    """
    refuse_modes(model)
    names = parameter_names(model, layers)
    x = x[:ROWS]
    key = (structure(model), names, rules, x.shape, x.dtype, x.device)
    verdict = _verdicts.get(key)
    if verdict is None:
        # in TF32 a row's result depends on the rows beside it, by rounding
        with asking("full"), exact_arithmetic():
            verdict = _judge(model, names, x, rules)
        _remember(key, verdict)
    _tell(verdict)
    parameters = dict(model.named_parameters())
    size = sum(parameters[name].numel() for name in names)
    held = size - verdict.spared
    hooked = {name: model.get_submodule(name) for name in verdict.layers.hooked}
    return Plan(
        hooked=hooked,
        copied=verdict.layers.copied,
        shared=verdict.layers.shared,
        rest=verdict.rest,
        vectorised=verdict.vectorised,
        names=names,
        size=size,
        held=held,
        widest=widest(hooked, held),
        pixelwise=verdict.pixelwise,
    )


def _remember(
    key: Hashable,
    verdict: Verdict,
) -> None:
    if verdict.lasting:
        _verdicts[key] = verdict
    if len(_verdicts) > KEPT:
        _verdicts.popitem(last=False)


def _judge(
    model: nn.Module,
    names: tuple[str, ...],
    x: Tensor,
    rules: bool,
) -> Verdict:
    """Tests the rules that the layers' types suggest, and drops what is wrong."""
    probe = draw(model, names, x, 0)
    check_companions(probe)
    check_reach(probe)
    suggested = _suggested(model, names) if rules else []
    seen = uses(model, probe.parameters, x, suggested)
    found = usable(model, seen, len(x))
    pixelwise = layout_is_free(probe)
    while found.hooked:
        wrong = _wrong(probe, _plan(model, names, found, pixelwise))
        if not wrong:
            break
        # without the taps of these, the gradients at other layers may be different ones
        found = found.without(wrong)
    how = _plan(model, names, found, pixelwise)
    return Verdict(
        layers=found,
        rest=how.rest,
        vectorised=vmap_is_right(probe, how.rest)
        or vmap_is_right(_other(probe), how.rest),
        pixelwise=pixelwise,
        spared=sum(
            spared(model.get_submodule(k), seen[k][0].given) for k in found.hooked
        ),
        moved=tuple(name for name in suggested if name not in found.hooked),
        lasting=probe.is_finite(),
    )


def _suggested(
    model: nn.Module,
    names: tuple[str, ...],
) -> list[str]:
    """Returns the layers with a rule, all of whose parameters are wanted, and by no one else."""
    where = places(model)
    found = []
    for name, module in model.named_modules():
        own = [member(name, key) for key, _ in module.named_parameters(recurse=False)]
        alone = all(key in names and len(where[key]) == 1 for key in own)
        if supported(module) and alone:
            found.append(name)
    return found


def _plan(
    model: nn.Module,
    names: tuple[str, ...],
    layers: Usable,
    pixelwise: bool,
) -> Plan:
    """Returns the plan that uses the rules of these layers."""
    modules = {name: model.get_submodule(name) for name in layers.hooked}
    covered = {
        member(name, key)
        for name, module in modules.items()
        for key, _ in module.named_parameters(recurse=False)
    }
    rest = tuple(name for name in names if name not in covered)
    copied = layers.copied
    return Plan(modules, copied, layers.shared, rest, True, names, 0, 0, 0, pixelwise)


def _wrong(
    probe: Probe,
    how: Plan,
) -> set[str]:
    """Returns the layers whose rule is wrong on this probe and on another one.

    On one alone it may be rounding: a rectifier that is on in one pass and off in the other.
    """
    wrong = set(wrong_rules(probe, how))
    if not wrong:
        return wrong
    return wrong.intersection(wrong_rules(_other(probe), how))


def _other(probe: Probe) -> Probe:
    return draw(probe.model, probe.names, probe.x, 1)


def _tell(verdict: Verdict) -> None:
    """Notes for the log which layers are not differentiated as their type suggests."""
    if verdict.moved:
        note("gradients_without_rule", _list(verdict.moved))
    if verdict.rest and not verdict.vectorised:
        note("gradients_one_by_one", _list(verdict.rest))


def _list(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:NAMED])
    more = len(names) - NAMED
    return f"{shown} and {more} more" if more > 0 else shown
