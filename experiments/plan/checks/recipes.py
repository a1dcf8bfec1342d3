"""Whether the methods of a grid can follow its recipes, told before any work."""

from collections.abc import Sequence

from experiments.plan.fields import Faults
from experiments.plan.spec import Applied
from poisonbench.training import Recipe


def check_recipes(
    recipes: Sequence[Recipe],
    applied: Sequence[Applied],
    faults: Faults,
) -> None:
    """Adds a fault for each method that refuses a recipe, with its reason.

    Args:
        recipes: of the grid.
        applied: its methods; one that cannot follow every recipe has a method `refusal(recipe)`.
        faults: gets them.
    """
    for one in applied:
        refusal = getattr(one.method.value, "refusal", None)
        if refusal is None:
            continue
        for why in dict.fromkeys(refusal(recipe) for recipe in recipes):
            if why:
                faults.add(one.part, f"{one.method.name}: {why}")
