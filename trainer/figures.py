"""Figures on pages: drawings and pictures as markup that loads nothing. The only module that draws with matplotlib."""

import base64
import io
from html import escape
from typing import Final

import matplotlib as mpl  # noqa: TID251
from matplotlib.figure import Figure as Drawing  # noqa: TID251
from PIL import Image

__all__ = ["COLOURS", "Drawing", "figure", "picture"]

COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#595959", "#000000")
"""Okabe and Ito's, told apart by colour-blind eyes, too."""


def figure(title: str, drawing: Drawing, told: str) -> str:
    """A heading, the drawing as SVG with its text as text, and what it shows."""
    with mpl.rc_context({"svg.hashsalt": "cleanerclip", "svg.fonttype": "none"}):
        file = io.StringIO()
        drawing.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :].replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1)
    return f"<h2>{escape(title)}</h2><figure>{svg}<figcaption>{escape(told)}</figcaption></figure>"


def picture(title: str, image: Image.Image, told: str) -> str:
    """A heading, the picture as PNG within the page, and what it shows."""
    file = io.BytesIO()
    image.save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    return (
        f'<h2>{escape(title)}</h2><figure><img alt="{escape(title)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(told)}</figcaption></figure>"
    )
