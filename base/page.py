"""From blocks of content to one self-contained page, and to Markdown.

Text in blocks is plain; the renderers mask secrets in it and escape it, whatever it holds. What stands between
backticks is shown as code, so text from data must come through :func:`plain`.
"""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from base.masking import without_secrets

LONG = 30  # characters of a cell that may take several lines
INK, MUTED, ACCENT, RULE = "#1f2933", "#52606d", "#2563a8", "#e4e7eb"

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
body {{ font: 16px/1.55 system-ui, sans-serif; color: {ink}; background: #fff; max-width: 68rem; margin: 2rem auto 4rem;
  padding: 0 1rem; overflow-wrap: break-word; }}
h1 {{ font-size: 1.7rem; line-height: 1.25; margin: 0 0 .3rem; }}
h2 {{ font-size: 1.2rem; margin: 2.6rem 0 .6rem; padding-top: .9rem; border-top: 1px solid {rule}; }}
h3 {{ font-size: 1rem; margin: 1.4rem 0 .4rem; }}
p, li {{ max-width: 46rem; }} p {{ margin: .5rem 0; }} p.note {{ color: {muted}; font-size: .9rem; }}
nav {{ columns: 3 14rem; font-size: .9rem; margin: 1.2rem 0; }} nav a {{ display: block; padding: .1rem 0; }}
a {{ color: {accent}; text-decoration: none; }} a:hover {{ text-decoration: underline; }}
.tiles {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .8rem; margin: 1.4rem 0; }}
.tile {{ border: 1px solid {rule}; border-radius: 6px; padding: .7rem .9rem; }}
.tile b {{ display: block; font-size: 1.35rem; color: {accent}; font-variant-numeric: tabular-nums; }}
.tile span {{ color: {muted}; font-size: .85rem; }}
.plots {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 1rem;
  margin: .8rem 0; align-items: start; }}
figure {{ margin: 0; border: 1px solid {rule}; border-radius: 6px; padding: .7rem; max-width: 40rem; }}
figure svg {{ display: block; width: 100%; height: auto; }}
figcaption {{ font-size: .85rem; color: {muted}; margin-top: .4rem; }}
.parts {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 0 2rem; }}
.parts section {{ min-width: 0; }}
.wide {{ overflow-x: auto; margin: .6rem 0; }}
table {{ border-collapse: collapse; font-size: .93rem; }}
th, td {{ padding: .28rem 1.4rem .28rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid {rule}; }}
th {{ font-weight: 600; color: {muted}; vertical-align: bottom; }}
td {{ white-space: nowrap; }} td.t {{ white-space: normal; min-width: 14rem; }}
td.n, th.n {{ text-align: right; font-variant-numeric: tabular-nums; }}
code {{ font: .88em ui-monospace, monospace; background: #f5f7fa; border-radius: 4px; padding: .1em .3em;
  overflow-wrap: anywhere; }}
@media (max-width: 40rem) {{
  th, td {{ padding-right: .8rem; }} td {{ white-space: normal; }} td.n {{ white-space: nowrap; }}
  td.t {{ min-width: 11rem; }} td:has(> code) {{ min-width: 11rem; }} td:first-child > code {{ overflow-wrap: normal; }}
}}
pre {{ background: #f5f7fa; border-radius: 6px; padding: .8rem 1rem; overflow-x: auto; font: .8rem/1.45 ui-monospace,
  monospace; }}
</style></head><body>
{body}
</body></html>
"""


@dataclass(frozen=True)
class Heading:
    """A heading: level 1 is the title of the page, 2 a section."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """Running text; a note is set smaller."""

    text: str
    note: bool = False


@dataclass(frozen=True)
class Link:
    """Words that lead to a file beside this one, and what is said of it."""

    words: str
    file: str
    text: str


@dataclass(frozen=True)
class Points:
    """A list of points."""

    items: Sequence[str]


@dataclass(frozen=True)
class Tiles:
    """The few numbers that a reader wants first: (number, what it is)."""

    items: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Table:
    """Rows of cells. A column whose cells are all numbers, shares or dashes is set to the right."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def right(self) -> list[bool]:
        """For each column, whether it is set to the right."""
        number = re.compile(r"[-–]|[+-]?[\d,.]+([eE][+-]?\d+)?( ?%| [kMGT]?B)?")
        columns = [[row[index] for row in self.rows] for index in range(len(self.header))]
        return [bool(cells) and all(number.fullmatch(cell) for cell in cells) for cells in columns]


@dataclass(frozen=True)
class Plots:
    """Plots side by side: (SVG, caption). They are on the page alone; tables have their numbers."""

    items: Sequence[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Listing:
    """Lines shown as they are."""

    text: str
    language: str = "yaml"


@dataclass(frozen=True)
class Parts:
    """Parts of a section, each with its own small heading, side by side where there is room."""

    items: Sequence[Sequence["Block"]]


@dataclass(frozen=True)
class Folded:
    """What a reader opens when it is wanted. On the page alone."""

    title: str
    items: Sequence["Block"]


Block = Heading | Paragraph | Link | Points | Tiles | Table | Plots | Listing | Parts | Folded
ON_THE_PAGE_ALONE = (Plots, Folded)


def plain(value: object) -> str:
    """Text from data: one line, and nothing in it that would be taken for code."""
    return " ".join(str(value).replace("`", "'").split())


# --- page --------------------------------------------------------------------------------------------------------


def html_page(content: Sequence[Block]) -> str:
    """One HTML file that needs no other; behind the tiles come links to the sections."""
    sections = [block.text for block in content if isinstance(block, Heading) and block.level == 2]
    links = "".join(f'<a href="#{_anchor(text)}">{_inline(text)}</a>' for text in sections)
    body = []
    for block in content:
        body.append(_html(block))
        if isinstance(block, Tiles):
            body.append(f"<nav>{links}</nav>")
    title = next(block.text for block in content if isinstance(block, Heading))
    return PAGE.format(
        title=html.escape(without_secrets(title)), body="\n".join(body), ink=INK, muted=MUTED, accent=ACCENT, rule=RULE
    )  # fmt: skip


def _html(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f'<h{level} id="{_anchor(text)}">{_inline(text)}</h{level}>'
        case Paragraph(text, note):
            return f"<p{' class=note' if note else ''}>{_inline(text)}</p>"
        case Link(words, file, text):
            return f'<p><a href="{html.escape(file)}">{_inline(words)}</a> {_inline(text)}</p>'
        case Points(items):
            return "<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in items) + "</ul>"
        case Tiles(items):
            tiles = (f"<div class=tile><b>{_inline(a)}</b><span>{_inline(b)}</span></div>" for a, b in items)
            return f"<div class=tiles>{''.join(tiles)}</div>"
        case Plots(items):
            figures = (f"<figure>{svg}<figcaption>{_inline(caption)}</figcaption></figure>" for svg, caption in items)
            return f"<div class=plots>{''.join(figures)}</div>"
        case Listing(text):
            return f"<pre>{html.escape(without_secrets(text))}</pre>"
        case Table():
            return _html_table(block)
        case Parts(items):
            parts = ("<section>" + "".join(_html(inner) for inner in part) + "</section>" for part in items)
            return f"<div class=parts>{''.join(parts)}</div>"
        case Folded(title, items):
            return f"<details><summary>{_inline(title)}</summary>{''.join(map(_html, items))}</details>"


def _html_table(table: Table) -> str:
    right = table.right()

    def row(cells: Sequence[str], tag: str) -> str:
        marks = [
            " class=n" if to_the_right else " class=t" if len(cell) > LONG else ""
            for cell, to_the_right in zip(cells, right, strict=True)
        ]
        inner = "".join(f"<{tag}{mark}>{_inline(cell)}</{tag}>" for cell, mark in zip(cells, marks, strict=True))
        return f"<tr>{inner}</tr>"

    lines = [row(table.header, "th"), *(row(cells, "td") for cells in table.rows)]
    return f"<div class=wide><table>{''.join(lines)}</table></div>"


def _inline(text: str) -> str:
    pieces = html.escape(without_secrets(text)).split("`")
    return "".join(f"<code>{piece}</code>" if index % 2 else piece for index, piece in enumerate(pieces))


def _anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", without_secrets(text).lower()).strip("-")


# --- Markdown ----------------------------------------------------------------------------------------------------


def markdown(content: Sequence[Block]) -> str:
    """The same without the plots and what is folded."""
    return "\n\n".join(_markdown(block) for block in content if not isinstance(block, ON_THE_PAGE_ALONE)) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {_escaped(text)}"
        case Paragraph(text):
            return _escaped(text)
        case Link(words, file, text):
            return f"[{_escaped(words)}]({file}) {_escaped(text)}"
        case Points(items):
            return "\n".join(f"- {_escaped(item)}" for item in items)
        case Tiles(items):
            return "\n".join(f"- {_escaped(what)}: **{_escaped(number)}**" for number, what in items)
        case Listing(text, language):
            return f"```{language}\n{without_secrets(text).rstrip()}\n```"
        case Table(header, rows):
            marks = ["---:" if right else "---" for right in block.right()]
            lines = [[_cell(cell) for cell in cells] for cells in (header, *rows)]
            lines.insert(1, marks)
            return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        case Parts(items):
            return markdown([inner for part in items for inner in part]).rstrip()
        case Plots() | Folded():
            raise AssertionError("on the page alone")


def _cell(text: str) -> str:
    """A bar ends a cell even within code."""
    return re.sub(r"(?<!\\)\|", r"\\|", _escaped(text))


def _escaped(text: str) -> str:
    pieces = without_secrets(text).split("`")
    return "`".join(piece if index % 2 else _escaped_words(piece) for index, piece in enumerate(pieces))


def _escaped_words(text: str) -> str:
    text = re.sub(r"([\\*_\[\]|#~$])", r"\\\1", text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
