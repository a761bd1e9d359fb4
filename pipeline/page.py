"""How every page of this project looks: one file, no script, nothing fetched; light and dark, phone, print.

`pipeline preview`, `trainer report` and `trainer audit` put their parts together here. Texts are escaped where they
become markup: what is given as a part is markup already.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

from pipeline.storage import write_text

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --line: #d1d9e0; --paper: #ffffff; --best: #0a6640;
  --bad: #a40e26; --mark-a: #dcebff; --mark-b: #e3f4d7; --mark-c: #fde7c8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9198a1; --line: #3d444d; --paper: #0d1117; --best: #56d364; --bad: #ff7b72;
    --mark-a: #1f3a5f; --mark-b: #24452a; --mark-c: #533a12; }
}
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 70rem;
  margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p, figcaption { color: var(--soft); max-width: 46rem; }
.wide { overflow-x: auto;
  background: linear-gradient(90deg, var(--paper) 30%, transparent) left / 2rem 100% no-repeat local,
  linear-gradient(270deg, var(--paper) 30%, transparent) right / 2rem 100% no-repeat local,
  linear-gradient(90deg, var(--line), transparent) left / 0.6rem 100% no-repeat scroll,
  linear-gradient(270deg, var(--line), transparent) right / 0.6rem 100% no-repeat scroll; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem; overflow-wrap: normal; }
th, td { padding: 0.3rem 0.5rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 9rem; }
.facts th { text-align: left; }
.facts td { text-align: left; vertical-align: top; white-space: normal; overflow-wrap: anywhere; }
b { color: var(--best); } .bad { color: var(--bad); font-weight: 600; }
.verdict { font-size: 1.15rem; color: var(--ink); border-left: 0.35rem solid var(--line); padding-left: 0.8rem; }
.verdict.bad { border-color: var(--bad); font-weight: 600; }
figure { margin: 1rem 0; } svg { width: 100%; height: auto; max-width: 38rem; background: #ffffff; }
.panels { display: flex; flex-wrap: wrap; gap: 0.5rem; } .panels div { flex: 1 1 18rem; max-width: 24rem; }
figure img { max-width: 100%; height: auto; }
@media (prefers-color-scheme: dark) { figure svg, .dot { filter: invert(0.92) hue-rotate(180deg); } }
@media (max-width: 40rem) { table { font-size: 0.8rem; } th, td { padding: 0.25rem 0.35rem; }
  th:first-child, td:first-child { min-width: 5.5rem; } h1 { font-size: 1.3rem; }
  .measures td { white-space: normal; }
  .picture { overflow-x: auto; } .picture img { max-width: 40rem; } figcaption { position: sticky; left: 0; } }
@media print { figure svg, .dot { filter: none; } body { max-width: none; font-size: 11pt; }
  figure, tr, article { break-inside: avoid; } h2 { break-after: avoid; }
  .wide { overflow: visible; background: none; } a { color: inherit; }
  table { font-size: 7.5pt; } th, td { padding: 0.15rem 0.3rem; } th { white-space: normal; }
  th:first-child, td:first-child { min-width: 5rem; } }
"""


def write_page(path: Path, title: str, parts: Sequence[str], *, style: str = "") -> None:
    """Writes the page: its title, then the parts, markup each; `style` adds to the common one."""
    head = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}{style}</style></head>'
    )
    write_text(path, f"{head}<body><h1>{escape(title)}</h1>{''.join(parts)}</body></html>\n")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, kind: str = "") -> str:
    """A table of plain texts, escaped here, which scrolls on its own where it is too wide; `kind` is its class."""
    lines = [f"<tr>{''.join(f'<th>{escape(cell)}</th>' for cell in head)}</tr>"] if head else []
    lines += [f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows]
    return f'<div class="wide"><table class="{kind}">{"".join(lines)}</table></div>'


def paragraph(text: str, *, kind: str = "") -> str:
    """A paragraph of plain text, escaped here."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"
