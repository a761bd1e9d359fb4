"""A smaller vocabulary for small models: CLIP's tokenizer with its first merges alone. Called by `model`."""

from copy import copy
from typing import Any


def reduce_vocabulary(tokenizer: Any, vocabulary_size: int) -> Any:
    """CLIP's tokenizer with only its first merges, so that it has `vocabulary_size` ids.

    Ids below 512 + merges are CLIP's own, start and end are the last two; a word whose later merges are gone simply
    becomes more pieces.
    """
    num_merges = vocabulary_size - 514
    start, end = tokenizer.all_special_ids
    reduced = copy(tokenizer)
    special = {tokenizer.decoder[start]: vocabulary_size - 2, tokenizer.decoder[end]: vocabulary_size - 1}
    kept = {piece: index for piece, index in tokenizer.encoder.items() if index < 512 + num_merges}
    reduced.encoder = kept | special
    reduced.decoder = {index: piece for piece, index in reduced.encoder.items()}
    reduced.bpe_ranks = {pair: rank for pair, rank in tokenizer.bpe_ranks.items() if rank < num_merges}
    reduced.cache = {piece: piece for piece in special}
    reduced.vocab_size = vocabulary_size
    reduced.all_special_ids = list(special.values())
    reduced.sot_token_id, reduced.eot_token_id = reduced.all_special_ids
    return reduced
