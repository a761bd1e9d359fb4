"""Demo scenes: what is in one (drawn at random), the picture of it, and a caption that tells the truth about it.

A scene is one thing or two, each with a noun, a colour, a size and a texture, before a background; two things
stand in a relation that the picture really shows. All randomness comes from the `random.Random` passed in.
Used by `demo_data`, which writes scenes as shards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import cos, radians, sin, tan
from random import Random
from typing import Final

from PIL import Image, ImageDraw

from pipeline.demo.drawings import BODY, DARK, DRAWINGS, LIGHT, NOUNS

Colour = tuple[int, int, int]
COLOURS: Final[dict[str, Colour]] = {
    "red": (214, 35, 42), "orange": (245, 130, 28), "yellow": (248, 218, 45), "green": (44, 150, 62),
    "blue": (40, 84, 205), "purple": (124, 52, 165), "pink": (246, 130, 182), "brown": (124, 76, 38),
    "black": (28, 28, 32), "white": (246, 246, 244), "grey": (132, 134, 138), "turquoise": (40, 190, 190),
}  # fmt: skip
SIZES: Final = ("tiny", "small", "large", "huge")
TEXTURES: Final = ("plain", "striped", "dotted")
SIDE_ALONE: Final = {"tiny": 0.42, "small": 0.54, "large": 0.70, "huge": 0.88}
SIDE_IN_PAIR: Final = {"tiny": 0.34, "small": 0.42, "large": 0.50, "huge": 0.58}
"""Share of the image's side that a thing fills, alone and beside another."""
BACKGROUNDS: Final = ("plain", "gradient", "horizon", "checked", "speckled")
SUPERSAMPLING: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """One thing of a scene."""

    noun: str
    colour: str
    size: str
    texture: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What one picture shows."""

    things: tuple[Thing, ...]
    """One or two; the first is the subject of the relation."""
    relation: str | None
    """A word of RELATIONS; None where there is one thing."""
    background: str
    background_colour: str


RELATIONS: Final[dict[str, tuple[str, ...]]] = {
    "above": ("above", "over", "floating above", "hanging above"),
    "below": ("below", "under", "lying below", "placed under"),
    "left": ("to the left of", "left of", "standing to the left of"),
    "right": ("to the right of", "right of", "standing to the right of"),
    "beside": ("next to", "beside", "standing next to", "resting beside"),
    "front": ("in front of", "standing in front of", "partly covering", "overlapping"),
    "behind": ("behind", "standing behind", "hiding behind", "peeking out from behind"),
}
"""Each relation that a picture can show, and how captions say it."""


def draw_scene_content(rng: Random, *, noun: str | None = None, nouns: Sequence[str] = NOUNS) -> Scene:
    """A scene of `nouns` at random; with `noun`, of that thing alone. Colours never depend on nouns."""
    alone = noun is not None or rng.random() < 0.55
    shown = [noun] if noun is not None else rng.sample(nouns, 1 if alone else 2)
    things = tuple(
        Thing(
            noun=name, colour=rng.choice(tuple(COLOURS)), size=rng.choice(SIZES), texture=rng.choice(TEXTURES)
        )
        for name in shown
    )
    relation = None if alone else rng.choice(tuple(RELATIONS))
    free = [colour for colour in COLOURS if colour not in {thing.colour for thing in things}]
    return Scene(
        things=things,
        relation=relation,
        background=rng.choice(BACKGROUNDS),
        background_colour=rng.choice(free),
    )


# ------------------------------------------------------------------------------------------------- the picture
def mix(first: Colour, second: Colour, share: float) -> Colour:
    """`share` of the second colour in the first."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def _luminance(colour: Colour) -> float:
    return (0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]) / 255


@cache
def _shades(name: str) -> tuple[Colour, Colour]:
    """The dark and the light shade of a colour; of black and white, shades that can be told from them."""
    colour = COLOURS[name]
    dark = mix(colour, (0, 0, 0), 0.6) if _luminance(colour) > 0.2 else (92, 92, 98)
    light = mix(colour, (255, 255, 255), 0.72) if _luminance(colour) < 0.9 else (196, 198, 204)
    return dark, light


def _texture(
    colour_name: str, texture: str, *, angle: int, period: int, phase: int, size: int
) -> Image.Image:
    """A square of the texture, `size` pixels wide, smooth-edged; stripes and dots repeat every `period` pixels."""
    colour = COLOURS[colour_name]
    if texture == "plain":
        return Image.new("RGB", (size, size), colour)
    second = mix(colour, (255, 255, 255), 0.5) if _luminance(colour) < 0.72 else mix(colour, (0, 0, 0), 0.35)
    wide, step = 2 * size, 2 * period
    square = Image.new("RGB", (wide, wide), colour)
    pen = ImageDraw.Draw(square)
    if texture == "striped":
        slope = round(wide * tan(radians(angle)))
        apart = round(step / cos(radians(angle)))
        for y in range(phase - max(0, slope) - apart, wide - min(0, slope) + apart, apart):
            pen.line([(0, y), (wide, y + slope)], fill=second, width=round(step * 0.45))
    else:
        radius = step * 0.27
        for row, y in enumerate(range(phase - step, wide + step, step)):
            for x in range(step // 2 * (row % 2), wide + step, step):
                pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=second)
    return square.reduce(2)


def _draw_background(scene: Scene, rng: Random, side: int) -> Image.Image:
    """A muted backdrop in the scene's background colour, kept away from the things' own colours."""
    base = COLOURS[scene.background_colour]
    pale, deep = mix(mix(base, (160, 160, 160), 0.2), (255, 255, 255), 0.5), mix(base, (30, 30, 34), 0.45)
    shades = [pale, deep] if rng.random() < 0.6 else [deep, pale]
    taken = [COLOURS[thing.colour] for thing in scene.things]
    shades.sort(
        key=lambda shade: min(sum((a - b) ** 2 for a, b in zip(shade, c, strict=True)) for c in taken) < 9_000
    )
    first = shades[0]
    second = mix(first, (255, 255, 255) if _luminance(first) < 0.5 else (0, 0, 0), rng.uniform(0.1, 0.22))
    picture = Image.new("RGB", (side, side), first)
    pen = ImageDraw.Draw(picture)
    if scene.background == "gradient":
        for y in range(side):
            pen.line([(0, y), (side, y)], fill=mix(first, second, 1.6 * y / side))
    elif scene.background == "horizon":
        pen.rectangle([0, round(side * rng.uniform(0.4, 0.75)), side, side], fill=second)
    elif scene.background == "checked":
        cell = max(2, round(side * rng.choice((0.125, 0.1875, 0.25))))
        for y in range(0, side, cell):
            for x in range(cell * (y // cell % 2), side, 2 * cell):
                pen.rectangle([x, y, x + cell - 1, y + cell - 1], fill=second)
    elif scene.background == "speckled":
        grain = Image.frombytes("L", (side, side), rng.randbytes(side * side))
        picture.paste(second, mask=grain.point([0] * 150 + [255] * 106))
    return picture


def _draw_thing(
    picture: Image.Image, thing: Thing, rng: Random, centre: tuple[float, float], side: float
) -> None:
    """Draw the thing into the picture around `centre` (in pixels), `side` pixels wide and high, edges smoothed."""
    half = round(side * 0.6) + 1
    scale = side / 2 * SUPERSAMPLING
    angle = radians(rng.uniform(-12, 12))
    stretch_x, stretch_y = rng.uniform(0.88, 1.0), rng.uniform(0.88, 1.0)
    mirror = rng.choice((-1, 1))
    xx, xy = scale * stretch_x * mirror * cos(angle), -scale * stretch_y * sin(angle)
    yx, yy = scale * stretch_x * mirror * sin(angle), scale * stretch_y * cos(angle)
    middle = half * SUPERSAMPLING
    layers = Image.new("L", (2 * middle, 2 * middle))
    pen = ImageDraw.Draw(layers)
    for layer, points in DRAWINGS[thing.noun]:
        corners = [(middle + xx * x + xy * y, middle + yx * x + yy * y) for x, y in points]
        pen.polygon(corners, fill=layer)
    dark, light = _shades(thing.colour)
    period = max(4, round(side / rng.uniform(4.5, 6.5)))
    left, top = round(centre[0]) - half, round(centre[1]) - half
    body = _texture(
        thing.colour,
        thing.texture,
        angle=rng.choice((0, 45, 60, -45)),
        period=period,
        phase=rng.randrange(period),
        size=2 * half,
    )
    picture.paste(body, (left, top), _mask(layers, BODY, DARK, LIGHT))
    for shade, layer in ((dark, DARK), (light, LIGHT)):
        picture.paste(shade, (left, top), _mask(layers, layer))


def _mask(layers: Image.Image, *shown: int) -> Image.Image:
    return layers.point(_levels(shown)).reduce(SUPERSAMPLING)


@cache
def _levels(shown: tuple[int, ...]) -> list[int]:
    return [255 if level in shown else 0 for level in range(256)]


def _places(scene: Scene, rng: Random) -> list[tuple[float, float, float]]:
    """Centre x, centre y and side of each thing, in shares of the image's side."""
    if scene.relation is None:
        side = SIDE_ALONE[scene.things[0].size] * rng.uniform(0.94, 1.06)
        spread = max(0.0, 0.5 - side * 0.5) * 0.8
        return [(0.5 + rng.uniform(-spread, spread), 0.5 + rng.uniform(-spread, spread), side)]
    sides = [SIDE_IN_PAIR[thing.size] * rng.uniform(0.95, 1.05) for thing in scene.things]
    reach = sum(sides) / 2
    gap = reach * (
        rng.uniform(0.42, 0.55) if scene.relation in ("front", "behind") else rng.uniform(0.92, 1.08)
    )
    sign = {"above": -1, "below": 1, "left": -1, "right": 1}.get(scene.relation) or rng.choice((-1, 1))
    upright = scene.relation in ("above", "below")
    spread = 0.5 * (1 - max(sides))
    drift = rng.uniform(-0.08, 0.08)
    across = 0.5 + rng.uniform(-spread, spread) * 0.6
    first, second = 0.5 + sign * gap / 2, 0.5 - sign * gap / 2
    if upright:
        return [(across + drift, first, sides[0]), (across - drift, second, sides[1])]
    return [(first, across + drift, sides[0]), (second, across - drift, sides[1])]


def draw_picture(scene: Scene, rng: Random, *, side: int) -> Image.Image:
    """The scene as an RGB image, `side` pixels square."""
    picture = _draw_background(scene, rng, side)
    placed = list(zip(scene.things, _places(scene, rng), strict=True))
    if scene.relation != "behind":
        placed.reverse()  # the subject is painted last, over the other thing
    for thing, (x, y, share) in placed:
        _draw_thing(picture, thing, rng, (x * side, y * side), share * side)
    return picture
