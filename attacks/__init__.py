"""Poisoning attacks, one per file.

To add one: write `attacks/NAME.py` with a frozen dataclass that satisfies
`poisonbench.contracts.Attack` (what attacks share lies in `attacks.kit`, which also says what the
fields mean that many have), give it a line in the table below, and a row in
`tests/test_attacks.py`. An attack outside the tree needs no entry: its name is
`package.module:Class`.
"""

from attacks.adaptive_blend import AdaptiveBlend
from attacks.adaptive_patch import AdaptivePatch
from attacks.blend import Blend
from attacks.bullseye import Bullseye
from attacks.error_minimising import ErrorMinimising
from attacks.feature_collision import FeatureCollision
from attacks.file import File
from attacks.gradient_matching import GradientMatching
from attacks.hidden_trigger import HiddenTrigger
from attacks.label_consistent import LabelConsistent
from attacks.label_flip import LabelFlip
from attacks.lsp import LSP
from attacks.metapoison import MetaPoison
from attacks.none import NoAttack
from attacks.norm_matched import NormMatched
from attacks.outside_instances import OutsideInstances
from attacks.patch import Patch
from attacks.random_labels import RandomLabels
from attacks.sinusoid import Sinusoid
from attacks.sleeper_agent import SleeperAgent
from attacks.spread import Spread
from attacks.tact import TaCT
from attacks.tone import Tone
from attacks.trigger_features import TriggerFeatures
from attacks.trigger_sentence import TriggerSentence
from attacks.trigger_word import TriggerWord
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
    "trigger-features": TriggerFeatures,
    "trigger-word": TriggerWord,
    "trigger-sentence": TriggerSentence,
    "tone": Tone,
    "outside-instances": OutsideInstances,
    "file": File,
    "label-consistent": LabelConsistent,
    "hidden-trigger": HiddenTrigger,
    "bullseye": Bullseye,
    "error-minimising": ErrorMinimising,
    "feature-collision": FeatureCollision,
    "gradient-matching": GradientMatching,
    "lsp": LSP,
    "metapoison": MetaPoison,
    "norm-matched": NormMatched,
    "random-labels": RandomLabels,
    "sleeper-agent": SleeperAgent,
    "spread": Spread,
}
