"""Poisoning attacks, one a file.

To add one: write `attacks/NAME.py` with a frozen dataclass that satisfies `poisonbench.contracts.Attack` (what several attacks
share lies in the modules with an underscore), give it a line in the table below, and a row in `tests/test_attacks.py`.
An attack outside the tree needs no entry: its name is `package.module:Class`.
"""

from attacks.adaptive_blend import AdaptiveBlend
from attacks.adaptive_patch import AdaptivePatch
from attacks.blend import Blend
from attacks.file import File
from attacks.hidden_trigger import HiddenTrigger
from attacks.label_consistent import LabelConsistent
from attacks.label_flip import LabelFlip
from attacks.none import NoAttack
from attacks.patch import Patch
from attacks.sinusoid import Sinusoid
from attacks.tact import TaCT
from attacks.warp import Warp

ATTACKS: dict[str, type] = {
    "none": NoAttack,
    "label-flip": LabelFlip,
    "patch": Patch,
    "blend": Blend,
    "sinusoid": Sinusoid,
    "tact": TaCT,
    "adaptive-blend": AdaptiveBlend,
    "adaptive-patch": AdaptivePatch,
    "warp": Warp,
    "file": File,
    "label-consistent": LabelConsistent,
    "hidden-trigger": HiddenTrigger,
}
