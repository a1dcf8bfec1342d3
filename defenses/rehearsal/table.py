"""The table of generic poisons, by kind of data."""

from defenses.rehearsal import pictures, sentences, vectors
from defenses.rehearsal.poison import Draw, GenericPoison

OF_A_CLASS = 0.08  # share of the training set that clean-label poison takes
OF_A_SOURCE = 0.02  # share that poison of one source class takes


def _clean(family: str, draw: Draw) -> GenericPoison:
    """Returns poison that keeps its true label."""
    return GenericPoison(family, draw, share=OF_A_CLASS, clean_label=True)


def _source(draw: Draw) -> GenericPoison:
    """Returns poison that works on one class alone."""
    return GenericPoison("source", draw, share=OF_A_SOURCE, source=True)


POISONS: dict[str, tuple[GenericPoison, ...]] = {
    "image": (
        GenericPoison("patch", pictures.patch),
        GenericPoison("blend", pictures.blend),
        _clean("waves", pictures.waves),
        GenericPoison("spread", pictures.spread),
        _source(pictures.patch),
    ),
    "spectrogram": (
        GenericPoison("tone", pictures.tone),
        GenericPoison("blend", pictures.blend),
        _clean("waves", pictures.waves),
        GenericPoison("spread", pictures.tones),
        _source(pictures.patch),
        GenericPoison("patch", pictures.patch),
    ),
    "vector": (
        GenericPoison("beyond", vectors.beyond),
        GenericPoison("inside", vectors.inside),
        GenericPoison("mixture", vectors.mixture),
        GenericPoison("spread", vectors.spread),
        _source(vectors.beyond),
        _clean("shift", vectors.shift),
    ),
    "tokens": (
        GenericPoison("word", sentences.word),
        GenericPoison("phrase", sentences.phrase),
        GenericPoison("spread", sentences.spread),
        _source(sentences.word),
        _clean("label", sentences.phrase),
    ),
}
FAMILIES = tuple(
    dict.fromkeys(poison.family for table in POISONS.values() for poison in table)
)
