"""Captions of demo scenes: true, grammatical, and as varied as people's and the web's. Used by `demo_data`.

Not everything that a scene shows is said; nothing is said that it does not show.
"""

from random import Random
from typing import Final

from pipeline.demo.scenes import RELATIONS, Scene, Thing

ALONE: Final[tuple[str, ...]] = (
    "{a}", "{a}.", "{a} on {ground}", "{bare}", "a picture of {a}", "a photo of {a}", "a photo of {a} on {ground}",
    "a drawing of {a}", "this is {a}.", "there is {a} in the picture", "one {bare}", "the {bare}", "{bare} clip art",
    "an illustration of {a}", "{bare} isolated on {ground}", "{bare} , vector illustration", "you can see {a}.",
    "a {colour} {noun} with {texture}", "the {noun} is {colour}", "the {noun} in the picture is {colour} and {size}.",
    "a {size} {noun} , drawn in {colour}", "{noun} icon - stock image", "nothing but {a}",
    "a cartoon of {a} on {ground}",
)  # fmt: skip
PAIR: Final[tuple[str, ...]] = (
    "{a} {relation} {b}", "{a} {relation} {b}.", "{a} is {relation} {b}.", "there is {a} {relation} {b}",
    "{a} {relation} {b} on {ground}", "a picture of {a} {relation} {b}", "a drawing of {a} {relation} {b}",
    "{bare} {relation} {bare_b}", "{bare} {relation} {bare_b} , cartoon illustration",
    "the {bare} is {relation} the {bare_b}", "{a} and {b}", "{bare} and {bare_b} - clip art",
    "a photo of {a} {relation} {b} .", "you can see {a} {relation} {b} .", "{a} that is {relation} {b}",
    "on {ground} , {a} is {relation} {b}.", "the {noun} {relation} {b} is {colour}",
    "one {bare} {relation} one {bare_b}",
)  # fmt: skip
TEXTURE_PHRASES: Final = {"plain": "no pattern", "striped": "stripes", "dotted": "dots"}


def with_article(phrase: str) -> str:
    """The phrase with "a" or "an" before it; right for the words of demo scenes."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _describe(thing: Thing, rng: Random) -> str:
    """The noun with some of its adjectives: size first, then texture and colour in either order."""
    size = [thing.size] if rng.random() < 0.25 else []
    says_texture = rng.random() < (0.08 if thing.texture == "plain" else 0.4)
    looks = [thing.texture] if says_texture else []
    if rng.random() < 0.45:
        looks.insert(rng.randrange(len(looks) + 1), thing.colour)
    return " ".join([*size, *looks, thing.noun])


def write_caption(scene: Scene, rng: Random) -> str:
    """A caption of the scene."""
    subject = scene.things[0]
    bare = _describe(subject, rng)
    words = {
        "noun": subject.noun,
        "colour": subject.colour,
        "size": subject.size,
        "texture": TEXTURE_PHRASES[subject.texture],
        "bare": bare,
        "a": with_article(bare),
        "ground": with_article(f"{scene.background_colour} background"),
    }
    templates = ALONE
    if scene.relation is not None:
        other = _describe(scene.things[1], rng)
        words |= {
            "bare_b": other,
            "b": with_article(other),
            "relation": rng.choice(RELATIONS[scene.relation]),
        }
        templates = PAIR
    template = rng.choice(templates)
    if template.startswith("a {"):
        template = template.replace("a {colour}", with_article(subject.colour)).replace(
            "a {size}", with_article(subject.size)
        )
    caption = template.format(**words)
    return caption[0].upper() + caption[1:] if rng.random() < 0.3 else caption
