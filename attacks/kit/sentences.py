"""Words that an attack writes into sentences: which, and where."""

import torch
from torch import Tensor

from attacks.kit.hashing import hashed
from poisonbench.data import PAD, UNKNOWN, Dataset
from poisonbench.errors import ConfigError


def ids_of(words: list[str], train: Dataset, field: str) -> Tensor:
    """Returns the token ids of `words`, (w,) int64, where the data lie.

    Args:
        words: to be looked up.
        train: has the vocabulary.
        field: of the attack, for the message.

    Raises:
        ConfigError: the vocabulary lacks a word: to a victim it would be any unknown word.
    """
    known = {word: token for token, word in enumerate(train.vocabulary)}
    lacking = [word for word in words if known.get(word, UNKNOWN) <= UNKNOWN]
    if lacking:
        missing = ", ".join(map(repr, dict.fromkeys(lacking)))
        what = f"{field} holds {missing}, which the vocabulary of the data lacks"
        raise ConfigError([what], "choose words that the training sentences hold")
    ids = [known[word] for word in words]
    return torch.tensor(ids, device=train.x.device)


def insert(x: Tensor, ids: Tensor, seed: int) -> Tensor:
    """Returns the sentences x, (k, length), with `ids`, (w,), in a row somewhere in each.

    The place is drawn by the seed and a hash of the clean sentence, uniformly over all gaps
    between its words and both ends. A sentence with no room loses its last words.

    Raises:
        ConfigError: `ids` are more than a sentence holds.
    """
    width = len(ids)
    length = x.shape[1]
    if width > length:
        what = f"a trigger of {width} words does not fit sentences of {length}"
        raise ConfigError([what], "choose a shorter trigger")
    words = (x != PAD).sum(1)
    gaps = words.clamp(max=length - width) + 1
    place = (hashed(x, seed) % gaps)[:, None]
    position = torch.arange(length, device=x.device)
    after = position - place  # position within the trigger, where it lies in [0, width)
    moved = after >= width
    clean = x.gather(1, position - width * moved)
    is_trigger = (after >= 0) & ~moved
    written = ids[after.clamp(0, width - 1)]
    return torch.where(is_trigger, written, clean)
