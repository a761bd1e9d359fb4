"""The thirty things that demo scenes show, each a list of filled polygons on the square from -1 to 1.

x runs right and y runs down. Everything is a polygon, so that one affine map turns, flips and stretches any
drawing. No drawing fixes its colour: the body takes the scene's colour and texture, dark and light parts are
shades of it. Used by `demo_scenes`, which places, colours and renders them.
"""

from math import cos, radians, sin
from typing import Final

Point = tuple[float, float]
HOLE, BODY, DARK, LIGHT = 0, 1, 2, 3
"""What a part shows: the background, the colour and texture, a darker shade, a lighter shade."""
Part = tuple[int, tuple[Point, ...]]
"""A layer of the four above, and the corners of a polygon. Later parts lie over earlier ones."""


def polygon(layer: int, *points: Point) -> Part:
    """The polygon with these corners."""
    return layer, points


def box(layer: int, left: float, top: float, right: float, bottom: float) -> Part:
    """An upright rectangle."""
    return layer, ((left, top), (right, top), (right, bottom), (left, bottom))


def oval(  # noqa: PLR0917 - a drawing is a table of numbers
    layer: int, x: float, y: float, width: float, height: float, first: int = 0, last: int = 360
) -> Part:
    """An ellipse with half axes `width` and `height`, or its part between two angles in degrees."""
    steps = max(6, (last - first) // 15)
    angles = [radians(first + (last - first) * i / steps) for i in range(steps + 1)]
    return layer, tuple((x + width * cos(a), y + height * sin(a)) for a in angles)


def band(  # noqa: PLR0917
    layer: int, x: float, y: float, inner: float, outer: float, first: int = 0, last: int = 360
) -> Part:
    """A ring between two radii, or its part between two angles in degrees."""
    _, outside = oval(layer, x, y, outer, outer, first, last)
    _, inside = oval(layer, x, y, inner, inner, first, last)
    return layer, outside + inside[::-1]


def stroke(layer: int, start: Point, end: Point, width: float) -> Part:
    """A straight line of this width."""
    (x0, y0), (x1, y1) = start, end
    length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
    across, along = (y1 - y0) / length * width / 2, (x1 - x0) / length * width / 2
    return layer, (
        (x0 - across, y0 + along),
        (x1 - across, y1 + along),
        (x1 + across, y1 - along),
        (x0 + across, y0 - along),
    )


def star(layer: int, outer: float, inner: float) -> Part:
    """A star with five points."""
    radii = [outer if i % 2 == 0 else inner for i in range(10)]
    return layer, tuple((r * sin(radians(36 * i)), -r * cos(radians(36 * i))) for i, r in enumerate(radii))


def _crescent() -> Part:
    _, outer = oval(BODY, 0, -0.5, 1.0, 1.15, 8, 172)
    _, inner = oval(BODY, 0, -0.55, 0.86, 0.62, 14, 166)
    return BODY, outer + inner[::-1]


def _petals() -> tuple[Part, ...]:
    turns = [radians(60 * i) for i in range(6)]
    return tuple(oval(BODY, 0.42 * cos(a), -0.4 + 0.42 * sin(a), 0.27, 0.27) for a in turns)


DRAWINGS: Final[dict[str, tuple[Part, ...]]] = {
    "apple": (
        oval(BODY, -0.33, 0.2, 0.55, 0.68), oval(BODY, 0.33, 0.2, 0.55, 0.68),
        stroke(DARK, (0, -0.3), (0.08, -0.9), 0.13), oval(LIGHT, 0.38, -0.72, 0.3, 0.15),
    ),
    "arrow": (
        box(BODY, -1, -0.2, 0.25, 0.2), polygon(BODY, (0.15, -0.72), (1, 0), (0.15, 0.72)),
    ),
    "ball": (
        oval(BODY, 0, 0, 0.9, 0.9), stroke(DARK, (-0.88, 0), (0.88, 0), 0.1),
        stroke(DARK, (0, -0.88), (0, 0.88), 0.1), band(DARK, -1.15, 0, 0.72, 0.82, -48, 48),
        band(DARK, 1.15, 0, 0.72, 0.82, 132, 228),
    ),
    "banana": (
        _crescent(), stroke(DARK, (-0.94, -0.32), (-0.98, -0.62), 0.16),
        stroke(DARK, (0.93, -0.33), (0.98, -0.48), 0.12),
    ),
    "bell": (
        oval(DARK, 0, 0.68, 0.2, 0.22), band(DARK, 0, -0.82, 0.07, 0.18),
        polygon(BODY, (-0.2, -0.72), (0.2, -0.72), (0.48, -0.42), (0.56, 0.15), (0.88, 0.6),
                (-0.88, 0.6), (-0.56, 0.15), (-0.48, -0.42)),
        stroke(DARK, (-0.68, 0.36), (0.68, 0.36), 0.09),
    ),
    "boat": (
        polygon(BODY, (-1, 0.3), (1, 0.3), (0.62, 0.82), (-0.62, 0.82)), box(DARK, -0.07, -0.95, 0.07, 0.3),
        polygon(LIGHT, (0.14, -0.9), (0.14, 0.18), (0.85, 0.18)),
        polygon(LIGHT, (-0.14, -0.6), (-0.14, 0.18), (-0.7, 0.18)),
    ),
    "book": (
        polygon(BODY, (-1, -0.6), (0, -0.42), (1, -0.6), (1, 0.6), (0, 0.8), (-1, 0.6)),
        polygon(LIGHT, (-0.88, -0.66), (-0.04, -0.46), (-0.04, 0.6), (-0.88, 0.44)),
        polygon(LIGHT, (0.88, -0.66), (0.04, -0.46), (0.04, 0.6), (0.88, 0.44)),
        *(stroke(DARK, (side * 0.2, y + 0.05), (side * 0.75, y - 0.06), 0.07)
          for side in (-1, 1) for y in (-0.25, 0, 0.25)),
    ),
    "bottle": (
        box(BODY, -0.17, -0.85, 0.17, -0.2), polygon(BODY, (-0.17, -0.4), (0.17, -0.4), (0.42, 0), (-0.42, 0)),
        box(BODY, -0.42, 0, 0.42, 1), box(LIGHT, -0.42, 0.2, 0.42, 0.65), box(DARK, -0.22, -1, 0.22, -0.75),
    ),
    "butterfly": (
        oval(BODY, -0.52, -0.38, 0.48, 0.5), oval(BODY, 0.52, -0.38, 0.48, 0.5),
        oval(BODY, -0.42, 0.45, 0.36, 0.42), oval(BODY, 0.42, 0.45, 0.36, 0.42),
        oval(LIGHT, -0.55, -0.4, 0.2, 0.22), oval(LIGHT, 0.55, -0.4, 0.2, 0.22),
        oval(DARK, 0, 0.05, 0.12, 0.75), stroke(DARK, (0, -0.6), (-0.3, -1), 0.08),
        stroke(DARK, (0, -0.6), (0.3, -1), 0.08),
    ),
    "car": (
        polygon(BODY, (-1, 0.08), (-0.62, 0), (-0.4, -0.48), (0.36, -0.48), (0.64, 0), (1, 0.12), (1, 0.5), (-1, 0.5)),
        polygon(LIGHT, (-0.48, 0), (-0.32, -0.36), (-0.06, -0.36), (-0.06, 0)),
        polygon(LIGHT, (0.06, 0), (0.06, -0.36), (0.28, -0.36), (0.48, 0)), oval(DARK, -0.52, 0.5, 0.27, 0.27),
        oval(DARK, 0.52, 0.5, 0.27, 0.27), oval(LIGHT, -0.52, 0.5, 0.1, 0.1), oval(LIGHT, 0.52, 0.5, 0.1, 0.1),
    ),
    "cat": (
        polygon(BODY, (-0.78, -0.9), (-0.78, 0.1), (-0.1, -0.4)),
        polygon(BODY, (0.78, -0.9), (0.78, 0.1), (0.1, -0.4)), oval(BODY, 0, 0.15, 0.82, 0.68),
        oval(DARK, -0.32, 0, 0.12, 0.16), oval(DARK, 0.32, 0, 0.12, 0.16),
        polygon(DARK, (-0.13, 0.25), (0.13, 0.25), (0, 0.42)),
        *(stroke(DARK, (side * 0.25, 0.38), (side, y), 0.05) for side in (-1, 1) for y in (0.3, 0.55)),
    ),
    "chair": (
        box(BODY, -0.6, -1, -0.36, 0.1), box(BODY, -0.6, 0, 0.6, 0.26), box(BODY, -0.6, 0.2, -0.42, 1),
        box(BODY, 0.42, 0.2, 0.6, 1), box(DARK, -0.36, 0.2, 0.36, 0.28),
    ),
    "clock": (
        oval(BODY, 0, 0, 0.95, 0.95), oval(LIGHT, 0, 0, 0.7, 0.7), stroke(DARK, (0, 0.05), (0, -0.55), 0.12),
        stroke(DARK, (-0.05, 0), (0.42, 0.2), 0.12), oval(DARK, 0, 0, 0.11, 0.11),
    ),
    "cloud": (
        oval(BODY, -0.52, 0.2, 0.46, 0.38), oval(BODY, 0.52, 0.2, 0.46, 0.38),
        oval(BODY, -0.2, -0.15, 0.45, 0.45), oval(BODY, 0.28, -0.05, 0.4, 0.38),
        box(BODY, -0.52, 0.1, 0.52, 0.58),
    ),
    "cup": (
        band(BODY, 0.42, 0.05, 0.26, 0.46, -90, 90),
        polygon(BODY, (-0.72, -0.6), (0.5, -0.6), (0.36, 0.85), (-0.58, 0.85)),
        oval(DARK, -0.11, -0.6, 0.61, 0.17),
    ),
    "fish": (
        polygon(BODY, (0.35, 0), (1, -0.55), (0.85, 0), (1, 0.55)), oval(BODY, -0.2, 0, 0.78, 0.5),
        polygon(DARK, (-0.2, -0.42), (0.25, -0.75), (0.2, -0.35)), oval(LIGHT, -0.58, -0.12, 0.15, 0.15),
        oval(DARK, -0.6, -0.12, 0.08, 0.08), band(DARK, -0.55, 0, 0.32, 0.4, -50, 50),
    ),
    "flower": (
        box(DARK, -0.07, 0, 0.07, 1), oval(DARK, 0.3, 0.62, 0.27, 0.12), oval(DARK, -0.3, 0.72, 0.27, 0.12),
        *_petals(), oval(LIGHT, 0, -0.4, 0.24, 0.24),
    ),
    "hammer": (
        box(LIGHT, -0.12, -0.5, 0.12, 1),
        polygon(BODY, (-0.75, -0.9), (0.3, -0.9), (0.8, -0.62), (0.3, -0.42), (-0.75, -0.42)),
    ),
    "hat": (
        box(BODY, -0.52, -0.85, 0.52, 0.5), oval(BODY, 0, 0.5, 1, 0.24), box(DARK, -0.52, 0.05, 0.52, 0.3),
    ),
    "heart": (
        oval(BODY, -0.43, -0.32, 0.46, 0.46), oval(BODY, 0.43, -0.32, 0.46, 0.46),
        polygon(BODY, (-0.84, -0.1), (-0.43, -0.4), (0, -0.4), (0.43, -0.4), (0.84, -0.1), (0, 0.9)),
    ),
    "house": (
        box(BODY, -0.75, -0.15, 0.75, 0.9), polygon(DARK, (-1, -0.1), (0, -0.95), (1, -0.1)),
        box(DARK, -0.16, 0.3, 0.16, 0.9), box(LIGHT, -0.58, 0.1, -0.28, 0.42),
        box(LIGHT, 0.28, 0.1, 0.58, 0.42),
    ),
    "key": (
        box(BODY, -0.2, -0.12, 1, 0.12), box(BODY, 0.5, 0, 0.66, 0.45), box(BODY, 0.82, 0, 1, 0.4),
        oval(BODY, -0.54, 0, 0.46, 0.46), oval(HOLE, -0.54, 0, 0.22, 0.22),
    ),
    "ladder": (
        box(BODY, -0.5, -1, -0.32, 1), box(BODY, 0.32, -1, 0.5, 1),
        *(box(BODY, -0.4, y - 0.07, 0.4, y + 0.07) for y in (-0.75, -0.37, 0, 0.37, 0.75)),
    ),
    "lamp": (
        box(DARK, -0.08, -0.2, 0.08, 0.85),
        polygon(BODY, (-0.32, -0.95), (0.32, -0.95), (0.8, -0.1), (-0.8, -0.1)), oval(BODY, 0, 0.85, 0.5, 0.15),
    ),
    "mushroom": (
        polygon(LIGHT, (-0.22, 0), (0.22, 0), (0.34, 0.95), (-0.34, 0.95)),
        oval(BODY, 0, 0.1, 0.98, 0.95, 180, 360), oval(LIGHT, -0.45, -0.22, 0.15, 0.15),
        oval(LIGHT, 0.1, -0.5, 0.17, 0.17), oval(LIGHT, 0.52, -0.15, 0.13, 0.13),
    ),
    "pencil": (
        box(DARK, -1, -0.2, -0.78, 0.2), box(LIGHT, -0.78, -0.2, -0.64, 0.2), box(BODY, -0.64, -0.2, 0.5, 0.2),
        polygon(LIGHT, (0.5, -0.2), (1, 0), (0.5, 0.2)), polygon(DARK, (0.82, -0.08), (1, 0), (0.82, 0.08)),
    ),
    "rocket": (
        polygon(LIGHT, (-0.2, 0.5), (0.2, 0.5), (0, 1)), polygon(DARK, (-0.28, 0), (-0.7, 0.65), (-0.28, 0.5)),
        polygon(DARK, (0.28, 0), (0.7, 0.65), (0.28, 0.5)),
        polygon(BODY, (0, -1), (0.2, -0.75), (0.32, -0.35), (0.32, 0.55), (-0.32, 0.55), (-0.32, -0.35), (-0.2, -0.75)),
        oval(LIGHT, 0, -0.22, 0.17, 0.17),
    ),
    "star": (
        star(BODY, 1, 0.42),
    ),
    "tree": (
        box(DARK, -0.14, 0.5, 0.14, 1), polygon(BODY, (0, -0.1), (0.8, 0.6), (-0.8, 0.6)),
        polygon(BODY, (0, -0.55), (0.64, 0.18), (-0.64, 0.18)),
        polygon(BODY, (0, -1), (0.46, -0.28), (-0.46, -0.28)),
    ),
    "umbrella": (
        box(DARK, -0.06, -0.95, 0.06, 0.72), oval(BODY, 0, 0.1, 0.98, 0.9, 180, 360),
        oval(HOLE, -0.66, 0.1, 0.3, 0.14), oval(HOLE, 0.66, 0.1, 0.3, 0.14), oval(HOLE, 0, 0.1, 0.34, 0.14),
        box(DARK, -0.06, 0, 0.06, 0.72), band(DARK, -0.2, 0.72, 0.14, 0.26, 0, 180),
    ),
}  # fmt: skip
"""Each noun's drawing. The nouns are the classes of the demo, in this (alphabetical) order."""

NOUNS: Final = tuple(DRAWINGS)
