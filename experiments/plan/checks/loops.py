"""Whether a grid asks of a training loop from outside what it can give, told before any work."""

from collections.abc import Sequence
from dataclasses import fields

from experiments.plan.fields import Faults, known_name
from experiments.plan.spec import Applied, TransferSpec
from poisonbench.losses import LOSSES
from poisonbench.training import Recipe
from poisonbench.training.needs import LOOP_OFFERS, NEEDS, unmet

# what a recipe tells beside the loop; everything else is the loop's own
BESIDE = (
    "model",
    "model_args",
    "weight_decay",
    "label_smoothing",
    "train",
    "loss",
    "routine",
    "start",
)


def check_loops(
    recipes: Sequence[Recipe],
    transfers: Sequence[TransferSpec | None],
    applied: Sequence[Applied],
    faults: Faults,
) -> None:
    """Adds a fault for each thing that a loop from outside does not give, or does not look at.

    Args:
        recipes: of the grid.
        transfers: how its victims start.
        applied: its methods, which declare in `needs` what they ask of a run.
        faults: gets them.
    """
    outside = [recipe for recipe in recipes if recipe.train is not None]
    for name in dict.fromkeys(recipe.train for recipe in outside):
        known_name({}, name, "training function", "recipe.train", faults)
    for name in dict.fromkeys(recipe.loss for recipe in outside):
        known_name(LOSSES, name, "loss", "recipe.loss", faults)
    if not outside:
        return
    ignored = [name for recipe in outside for name in _changed(recipe)]
    for name in dict.fromkeys(ignored):
        what = "has no meaning beside recipe.train: the function decides"
        faults.add(f"recipe.{name}", what)
    if any(transfers):
        faults.add("transfer", "needs the loop of poisonbench, not recipe.train")
    for one in applied:
        for need in unmet(LOOP_OFFERS, getattr(one.method.value, "needs", ())):
            meaning, way = NEEDS[need]
            told = (
                f"{one.method.name} needs {meaning}, which recipe.train does not give"
            )
            faults.add(one.part, f"{told}; {way}")


def _changed(recipe: Recipe) -> list[str]:
    """Returns the fields that are not as a recipe has them by default, but for those beside."""
    usual = Recipe()
    return [
        field.name
        for field in fields(recipe)
        if field.name not in BESIDE
        and getattr(recipe, field.name) != getattr(usual, field.name)
    ]
