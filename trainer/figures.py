"""Figures on pages: drawings and pictures as markup that loads nothing. The only module that draws with matplotlib."""

import base64
import io
from collections.abc import Mapping
from html import escape
from typing import Final

import matplotlib as mpl  # noqa: TID251
from matplotlib.figure import Figure as Drawing  # noqa: TID251
from PIL import Image

__all__ = ["COLOURS", "Drawing", "figure", "panels", "picture"]

COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#595959", "#000000")
"""Okabe and Ito's, told apart by colour-blind eyes, too."""


def figure(title: str, drawing: Drawing, told: str) -> str:
    """A heading, the drawing as SVG with its text as text, and what it shows."""
    told = f"<figcaption>{escape(told)}</figcaption>"
    return f"<h2>{escape(title)}</h2><figure>{_svg(title, drawing)}{told}</figure>"


def panels(title: str, drawings: Mapping[str, Drawing], told: str, *, legend: Mapping[str, str]) -> str:
    """A heading, drawings with their names, as many beside each other as there is room for, and what colours mean.

    `legend` gives the colour of each name.
    """
    parts = [f"<div>{_svg(f'{title}: {name}', drawing)}</div>" for name, drawing in drawings.items()]
    names = [
        f'<span class="dot" style="color:{colour}">&#9679;</span>&nbsp;{escape(name)}'
        for name, colour in legend.items()
    ]
    key = f"<p>{' &nbsp; '.join(names)}</p>" if len(legend) > 1 else ""
    told = f"<figcaption>{escape(told)}</figcaption>"
    return f'<h2>{escape(title)}</h2><figure><div class="panels">{"".join(parts)}</div>{key}{told}</figure>'


def _svg(title: str, drawing: Drawing) -> str:
    with mpl.rc_context({"svg.hashsalt": "cleanerclip", "svg.fonttype": "none"}):
        file = io.StringIO()
        drawing.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None})
    svg = file.getvalue()
    return svg[svg.index("<svg") :].replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1)


def picture(title: str, image: Image.Image, told: str) -> str:
    """A heading, the picture as PNG within the page, and what it shows."""
    file = io.BytesIO()
    image.save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    return (
        f'<h2>{escape(title)}</h2><figure class="picture"><img alt="{escape(title)}" '
        f'src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(told)}</figcaption></figure>"
    )
