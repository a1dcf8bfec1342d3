"""The table of generic poisons, by kind of data."""

from defenses.rehearsal import pictures, sentences, vectors
from defenses.rehearsal.poison import GenericPoison

OF_A_CLASS = 0.08  # share of the training set that clean-label poison takes

POISONS: dict[str, tuple[GenericPoison, ...]] = {
    "image": (
        GenericPoison(
            family="patch",
            draw=pictures.patch,
        ),
        GenericPoison(
            family="blend",
            draw=pictures.blend,
        ),
        GenericPoison(
            family="waves",
            draw=pictures.waves,
            share=OF_A_CLASS,
            clean_label=True,
        ),
        GenericPoison(
            family="spread",
            draw=pictures.spread,
        ),
        GenericPoison(
            family="source",
            draw=pictures.patch,
            share=0.02,
            source=True,
        ),
    ),
    "spectrogram": (
        GenericPoison(
            family="tone",
            draw=pictures.tone,
        ),
        GenericPoison(
            family="blend",
            draw=pictures.blend,
        ),
        GenericPoison(
            family="waves",
            draw=pictures.waves,
            share=OF_A_CLASS,
            clean_label=True,
        ),
        GenericPoison(
            family="spread",
            draw=pictures.tones,
        ),
        GenericPoison(
            family="source",
            draw=pictures.patch,
            share=0.02,
            source=True,
        ),
        GenericPoison(
            family="patch",
            draw=pictures.patch,
        ),
    ),
    "vector": (
        GenericPoison(
            family="beyond",
            draw=vectors.beyond,
        ),
        GenericPoison(
            family="inside",
            draw=vectors.inside,
        ),
        GenericPoison(
            family="mixture",
            draw=vectors.mixture,
        ),
        GenericPoison(
            family="spread",
            draw=vectors.spread,
        ),
        GenericPoison(
            family="source",
            draw=vectors.beyond,
            share=0.02,
            source=True,
        ),
        GenericPoison(
            family="shift",
            draw=vectors.shift,
            share=OF_A_CLASS,
            clean_label=True,
        ),
    ),
    "tokens": (
        GenericPoison(
            family="word",
            draw=sentences.word,
        ),
        GenericPoison(
            family="phrase",
            draw=sentences.phrase,
        ),
        GenericPoison(
            family="spread",
            draw=sentences.spread,
        ),
        GenericPoison(
            family="source",
            draw=sentences.word,
            share=0.02,
            source=True,
        ),
        GenericPoison(
            family="label",
            draw=sentences.phrase,
            share=OF_A_CLASS,
            clean_label=True,
        ),
    ),
}
FAMILIES = tuple(
    dict.fromkeys(poison.family for table in POISONS.values() for poison in table)
)
