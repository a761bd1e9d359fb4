"""How CLIP's tokenizer cuts the terms: none is truncated, none falls into letters."""

import pytest

from pipeline.lexicons.loading import Lexicon, load_lexicons

pytest.importorskip("torch", reason="the trainer's extra is not installed: no tokenizer to ask")

MAX_TOKENS = 6
"""Of 77; the longest is "twirled in front of"."""
MAX_TOKENS_PER_WORD = 4
SHARE_IN_THREE = 0.9


def lexicons() -> list[Lexicon]:
    loaded = load_lexicons()
    return [loaded.objects, loaded.attributes, loaded.relations]


@pytest.fixture(scope="module")
def pieces() -> "dict[str, list[str]]":
    """The pieces of every form of every term, and of every word in them."""
    from trainer.model import load_model

    tokenizer = load_model("cleanerclip-rn-64").tokenizer
    import open_clip  # noqa: TID251

    clip = open_clip.get_tokenizer("RN50")
    assert tokenizer is not None
    forms = {form for lexicon in lexicons() for term in lexicon.terms for form in term.forms if form}
    words = {word for form in forms for word in form.replace("-", " ").split()}
    return {text: [clip.decoder[token] for token in clip.encode(text)] for text in sorted(forms | words)}


@pytest.mark.parametrize("lexicon", lexicons(), ids=lambda lexicon: lexicon.name)
def test_terms_are_few_tokens(lexicon: Lexicon, pieces: "dict[str, list[str]]") -> None:
    lengths = [len(pieces[form]) for term in lexicon.terms for form in term.forms if form]
    assert max(lengths) <= MAX_TOKENS
    assert sum(length <= 3 for length in lengths) >= SHARE_IN_THREE * len(lengths)


@pytest.mark.parametrize("lexicon", lexicons(), ids=lambda lexicon: lexicon.name)
def test_no_word_falls_into_letters(lexicon: Lexicon, pieces: "dict[str, list[str]]") -> None:
    words = {word for term in lexicon.terms for word in term.term.replace("-", " ").split()}
    for word in sorted(word for word in words if word.isalpha()):
        parts = [piece.removesuffix("</w>") for piece in pieces[word]]
        assert len(parts) <= MAX_TOKENS_PER_WORD, (word, parts)
        assert sum(len(part) == 1 for part in parts) * 2 <= max(len(parts), 2), (word, parts)
