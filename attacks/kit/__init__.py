"""What an attack outside the tree may build on: helpers that the built-in ones share.

Fields that attacks share mean the same everywhere, and are checked by `poisonbench.checks`:

- budget: poisoned rows as a fraction of the training set, in (0, 1); attacks on the whole set may
  take 1. It pays for `count(budget, n)` rows; where a class has fewer, `craft` warns.
- cover: rows that show the trigger and keep their labels, as a fraction of the training set.
- target: the label that the attacker wants; source: the class of the attacked points.
- eps: radius of the max-norm ball around the clean rows, in pixel values of [0, 1].
- steps, surrogate, surrogates: of the optimisation; the recipe and the number of the attacker's
  models. `OnePoint` describes the seven fields of attacks on one test point.
- size, place, value: of a square; `Stamping` describes them.

Each attack spells out its fields with its own defaults: the class shows all that it has.
"""

from attacks.kit.aim import Aim as Aim
from attacks.kit.aim import OnePoint as OnePoint
from attacks.kit.aim import take_aim as take_aim
from attacks.kit.backdoor import Cover as Cover
from attacks.kit.backdoor import check_classes as check_classes
from attacks.kit.backdoor import clean_label as clean_label
from attacks.kit.backdoor import dirty_label as dirty_label
from attacks.kit.descent import adam_descent as adam_descent
from attacks.kit.descent import project as project
from attacks.kit.descent import signed_descent as signed_descent
from attacks.kit.rows import check_class as check_class
from attacks.kit.rows import draw as draw
from attacks.kit.rows import poison_in_place as poison_in_place
from attacks.kit.rows import rows_of as rows_of
from attacks.kit.square import Stamping as Stamping
from attacks.kit.surrogate import surrogate as surrogate
from poisonbench.checks import check_at_least as check_at_least
from poisonbench.checks import check_choice as check_choice
from poisonbench.checks import check_fraction as check_fraction
from poisonbench.contracts.kinds import check_kind as check_kind
