"""The text of a JATS or NLM DTD element as blocks: headings, paragraphs, lists, captions, one string each, in order.

The rules, in the order in which a reader would ask:

- Inline markup, ``sub``, ``sup`` and MathML follow ``plain_text``. Elements that we do not know are text, in place.
- A ``sec`` begins with its heading on a line of its own; a heading under which nothing is left goes with it. In an
  abstract the heading runs in, as PubMed has it: ``Methods: …``.
- A list is one block, a line an item. A paragraph ends where a list, table, figure or quotation stands in it, and a new
  one begins after it.
- Tables, figures, formulas and citations go by the settings. Of ``alternatives`` one child is taken: MathML, else text
  or tables, else TeX without its preamble.
- Footnotes and their marks are left out, and so is whatever ``LEFT_OUT`` names. Sections that are about the paper
  rather than its matter go too (``sections``).
"""

import re
from collections.abc import Callable, Iterable

from lxml.etree import _Element

from data_prep.parse.citations import NOTE_MARK, PICTURE, mark, marked_only, without_citations
from data_prep.parse.plain_text import EXPONENT, formula, local_name, normalise
from data_prep.parse.sections import is_left_out
from data_prep.schema import ParsePmc

LEFT_OUT = frozenset([
    "ack", "aff", "alt-text", "app", "app-group", "author-notes", "award-group", "bio", "contrib-group",
    "copyright-statement", "copyright-year", "counts", "custom-meta-group", "fn", "fn-group", "funding-group",
    "glossary", "graphic", "index-term", "index-term-range-end", "inline-media", "kwd-group", "license",
    "long-desc", "media", "notes", "object-id", "permissions", "processing-meta", "ref-list", "response",
    "sec-meta", "sig-block", "sub-article", "supplementary-material", "table-wrap-foot", "title-group",
    "treatment-meta",
])  # fmt: skip
# Text that runs on within its line. Whatever is neither here nor handled below is a block, unless a line is open.
INLINE = frozenset([
    "abbrev", "abbrev-journal-title", "bold", "chem-struct", "citation-alternatives", "email", "ext-link",
    "fixed-case", "inline-supplementary-material", "institution", "italic", "milestone-end", "milestone-start",
    "monospace", "named-content", "overline", "overline-end", "overline-start", "rb", "roman", "rt", "ruby",
    "sans-serif", "sc", "strike", "styled-content", "target", "taxon-authority", "taxon-name", "taxon-name-part",
    "taxon-status", "underline", "underline-end", "underline-start", "uri", "x", "year",
])  # fmt: skip
LINES = frozenset([
    "article-title", "attrib", "entry", "label", "p", "speaker", "subtitle", "td", "term", "th", "title",
    "verse-line",
])  # fmt: skip
CITED = frozenset(("bibr", "ref", "bib"))
NOTED = frozenset(("fn", "table-fn", "author-notes", "corresp", "aff", "contrib"))

PREAMBLE = re.compile(r"\\begin\{document\}(.*?)\\end\{document\}", re.S)
MARKED_ITEM = re.compile(r"[•·●○◦*\u2010-\u2015-]|\(?(?:\d{1,2}|[ivx]{1,4}|[a-z])[.)]\s")
ENDED = (".", ":", ";", "?", "!", "…", ".)", ".”", '."')

_names: dict[object, str | None] = {}


def blocks_of(element: _Element | None, settings: ParsePmc, abstract: bool = False) -> list[str]:
    """The blocks below an element; none where there is no element.

    Args:
        element: ``body``, ``abstract`` or ``floats-group``.
        abstract: headings run in, and the element's own title (``Abstract``) is left out.

    Raises:
        Refused: an entity stands in the text that the file does not define.
    """
    if element is None:
        return []
    text = _Text(settings, abstract)
    text.walk(element, in_line=False)
    text.flush()
    return text.blocks


def line_of(element: _Element | None, settings: ParsePmc) -> str:
    """The text of an element on one line. Raises Refused as ``blocks_of`` does."""
    return "" if element is None else _Text(settings).line(element)


class _Text:
    """Walks an element; ``parts`` is the line that is open, ``blocks`` what has been closed."""

    def __init__(self, settings: ParsePmc, abstract: bool = False) -> None:
        self.settings = settings
        self.abstract = abstract
        self.blocks: list[str] = []
        self.parts: list[str] = []
        self.run_in = ""

    def walk(self, element: _Element, in_line: bool) -> None:
        """Take in the text of an element and of everything below it."""
        if element.text:
            self.parts.append(element.text)
        for child in element:
            self.take(child, in_line)
            if child.tail:
                self.parts.append(child.tail)

    def take(self, child: _Element, in_line: bool) -> None:
        """Take in one element, without its tail."""
        try:
            name = _names[child.tag]
        except KeyError:
            name = _names[child.tag] = local_name(child)
        if name is None or name in LEFT_OUT:
            return
        handler = HANDLERS.get(name)
        if handler is not None:
            handler(self, child, in_line)
        elif name in INLINE or (in_line and name not in LINES):
            self.walk(child, in_line)
        else:
            self.flush()
            self.walk(child, name in LINES)
            self.flush()

    def flush(self) -> None:
        """Close the open line."""
        if self.parts:
            text = finished("".join(self.parts))
            self.parts.clear()
            if text:
                self.add(text)

    def add(self, block: str) -> None:
        """Add a block, after the heading that waits to run in."""
        self.blocks.append(self.run_in + block)
        self.run_in = ""

    def inner(self, element: _Element) -> str:
        """The text below an element as it stands, citations still marked."""
        text = _Text(self.settings)
        text.walk(element, in_line=True)
        if not text.blocks:
            return "".join(text.parts)
        text.flush()
        return " ".join(text.blocks)

    def line(self, element: _Element) -> str:
        """The text below an element on one line."""
        return finished(self.inner(element))

    def below(self, element: _Element) -> list[str]:
        """The blocks below an element."""
        return blocks_of(element, self.settings)


def finished(text: str) -> str:
    """A line as it is handed over: without marked citations, normalised."""
    return normalise(without_citations(text))


def sentences(parts: Iterable[str]) -> str:
    """Side by side, each but the last with a full stop unless it ends in one."""
    having = [part for part in parts if part]
    return " ".join([*(part if part.endswith(ENDED) else f"{part}." for part in having[:-1]), *having[-1:]])


def _section(text: _Text, section: _Element, in_line: bool) -> None:
    if is_left_out(section):
        return
    text.flush()
    heading = " ".join(text.line(part) for part in _heading(section) if part is not None).strip()
    if not text.settings.headings:
        heading = ""
    elif text.abstract:
        text.run_in = f"{heading.rstrip(' .:')}: " if heading else ""
        heading = ""
    before = len(text.blocks)
    if heading:
        text.add(heading)
    text.walk(section, in_line=False)
    text.flush()
    text.run_in = ""
    if heading and len(text.blocks) == before + 1:
        text.blocks.pop()


def _heading(section: _Element) -> tuple[_Element | None, _Element | None]:
    return section.find("{*}label"), section.find("{*}title")


def _title_or_label(text: _Text, element: _Element, in_line: bool) -> None:
    parent = element.getparent()
    container = None if parent is None else local_name(parent)
    if container == "sec" and any(element is part for part in _heading(parent)):  # type: ignore[arg-type]
        return  # stands above the section already
    if container == "abstract":
        return
    if in_line:
        text.parts.append(f" {text.inner(element)} ")
        return
    text.flush()
    text.walk(element, in_line=True)
    text.flush()


def _script(text: _Text, element: _Element, in_line: bool) -> None:
    """As ``plain_text`` has it, but that a superscript of nothing but citations is one citation."""
    inner = text.inner(element)
    if marked_only(inner):
        text.parts.append(mark(inner) if any(map(str.isalnum, inner)) else NOTE_MARK)
        return
    before = next((part[-1] for part in reversed(text.parts) if part), "")
    if before.isdigit() and EXPONENT.match(inner):
        inner = ("^" if local_name(element) == "sup" else "_") + inner.strip()
    digits_meet = (element.tail or "")[:1].isdigit() and inner[-1:].isdigit() and before
    text.parts.append(f"{inner} " if digits_meet else inner)


def _xref(text: _Text, element: _Element, in_line: bool) -> None:
    kind = element.get("ref-type")
    if kind in NOTED:
        text.parts.append(NOTE_MARK)
    elif kind not in CITED:
        text.walk(element, in_line)
    elif text.settings.citations == "drop":
        text.parts.append(mark(text.inner(element)))
    elif _is_raised(element):
        text.parts.append(f" [{text.inner(element)}]")  # or the number would grow onto the word before it
    else:
        text.walk(element, in_line)


def _is_raised(citation: _Element) -> bool:
    return len(citation) == 1 and not (citation.text or "").strip() and local_name(citation[0]) == "sup"


def _raised(text: _Text, element: _Element, in_line: bool) -> None:
    """``sup``: with citations kept, a superscript of citations stands in brackets, apart from the word before it."""
    if text.settings.citations == "keep" and not (element.text or "").strip(" \n[("):
        children = [child for child in element if local_name(child) is not None]
        if children and all(child.get("ref-type") in CITED for child in children):
            text.parts.append(f" [{text.line(element).strip('[]()')}]")
            return
    _script(text, element, in_line)


def _break(text: _Text, element: _Element, in_line: bool) -> None:
    text.parts.append(" ")


def _math(text: _Text, element: _Element, in_line: bool) -> None:
    if text.settings.formulas == "text":
        _apart(text, normalise(formula(element)), element.tail)


def _tex(text: _Text, element: _Element, in_line: bool) -> None:
    parent = element.getparent()
    said_twice = parent is not None and parent.find("{*}math") is not None
    if text.settings.formulas == "text" and not said_twice:
        source = "".join(element.itertext())
        document = PREAMBLE.search(source)
        _apart(text, (document[1] if document else source).replace("$", " ").strip(), element.tail)


def _apart(text: _Text, line: str, tail: str | None) -> None:
    """A formula touches no word."""
    before = " " if text.parts and text.parts[-1][-1:].isalnum() else ""
    text.parts.append(f"{before}{line}{' ' if (tail or '')[:1].isalnum() else ''}")


def _inline_formula(text: _Text, element: _Element, in_line: bool) -> None:
    line = text.inner(element) if text.settings.formulas == "text" else ""
    _apart(text, line if line.strip(f" {PICTURE}") else PICTURE, element.tail)


def _picture(text: _Text, element: _Element, in_line: bool) -> None:
    text.parts.append(PICTURE)


def _display_formula(text: _Text, element: _Element, in_line: bool) -> None:
    if text.settings.formulas == "text":
        if not in_line:
            text.flush()
        text.parts.append(f" {text.inner(element)} ")
        if not in_line:
            text.flush()


def _alternatives(text: _Text, element: _Element, in_line: bool) -> None:
    having = [child for child in element if local_name(child) not in (*LEFT_OUT, None)]
    having = [child for child in having if local_name(child) != "inline-graphic"]
    formulas = [child for child in having if local_name(child) == "math"]
    tables = [child for child in having if local_name(child) == "table"]  # pieces of one table that was cut
    texts = [child for child in having if local_name(child) != "tex-math"]
    for child in formulas[:1] or tables or texts[:1] or having[:1]:
        text.take(child, in_line)


def _list(text: _Text, element: _Element, in_line: bool) -> None:
    text.flush()
    lines, number = [], 0
    for child in element:
        name = local_name(child)
        if name == "list-item":
            number += 1
            label = child.find("{*}label")
            content = text.below(child)
            if label is not None and content:
                bullet, content = content[0], content[1:]
            elif element.get("list-type") == "simple" or (content and MARKED_ITEM.match(content[0])):
                bullet = ""
            else:
                bullet = f"{number}." if element.get("list-type") == "order" else "-"
            if content or label is not None:
                lines.append(" ".join([bullet, "\n".join(content)]).strip())
        elif name not in (*LEFT_OUT, None):
            lines.append(text.line(child))
    if any(lines):
        text.add("\n".join(line for line in lines if line))


def _definitions(text: _Text, element: _Element, in_line: bool) -> None:
    text.flush()
    lines = []
    for child in element:
        name = local_name(child)
        if name == "def-item":
            terms = ", ".join(text.line(term) for term in child.iterchildren("{*}term"))
            meant = " ".join(block for one in child.iterchildren("{*}def") for block in text.below(one))
            lines.append(f"{terms}: {meant}".strip(" :"))
        elif name not in (*LEFT_OUT, None):
            lines.append("\n".join(text.below(child)) if name == "def-list" else text.line(child))
    if any(lines):
        text.add("\n".join(line for line in lines if line))


def _preformatted(text: _Text, element: _Element, in_line: bool) -> None:
    text.flush()
    lines = [finished(line) for line in text.inner(element).split("\n")]
    if any(lines):
        text.add("\n".join(lines).strip("\n"))


def _caption(text: _Text, element: _Element) -> str:
    """Label, title and words of a table or figure on one line."""
    label = element.find("{*}label")
    captions = [block for one in element.iterchildren("{*}caption") for block in text.below(one)]
    return sentences([text.line(label) if label is not None else "", *captions])


def _figure(text: _Text, element: _Element, in_line: bool) -> None:
    if text.settings.figures == "drop":
        return
    text.flush()
    block = _caption(text, element)
    if block:
        text.add(block)
    for part in element.iterchildren("{*}fig", "{*}fig-group", "{*}table-wrap"):
        text.take(part, in_line=False)


def _table_wrap(text: _Text, element: _Element, in_line: bool) -> None:
    if text.settings.tables == "drop":
        return
    text.flush()
    lines = [_caption(text, element)]
    if text.settings.tables == "text":
        for child in element:
            if local_name(child) not in ("label", "caption", "table-wrap-foot", "table-wrap", *LEFT_OUT, None):
                cells = _Text(text.settings)
                cells.take(child, in_line=False)
                cells.flush()
                lines += cells.blocks
        for foot in element.iterchildren("{*}table-wrap-foot"):
            lines += [text.line(note) for note in foot if local_name(note) is not None]
    if any(lines):
        text.add("\n".join(line for line in lines if line))
    for part in element.iterchildren("{*}table-wrap"):
        text.take(part, in_line=False)


def _table(text: _Text, element: _Element, in_line: bool) -> None:
    if text.settings.tables != "text":
        return
    text.flush()
    rows = []
    for row in element.iter("{*}tr", "{*}row"):
        cells = [" ".join(text.below(cell)) for cell in row.iterchildren("{*}td", "{*}th", "{*}entry")]
        if any(cells):
            rows.append(" | ".join(cells))
    if rows:
        text.add("\n".join(rows))


HANDLERS: dict[str, Callable[[_Text, _Element, bool], None]] = {
    "alternatives": _alternatives,
    "array": _table,
    "break": _break,
    "code": _preformatted,
    "def-list": _definitions,
    "disp-formula": _display_formula,
    "fig": _figure,
    "fig-group": _figure,
    "inline-formula": _inline_formula,
    "inline-graphic": _picture,
    "label": _title_or_label,
    "list": _list,
    "math": _math,
    "preformat": _preformatted,
    "sec": _section,
    "sub": _script,
    "sup": _raised,
    "table": _table,
    "table-wrap": _table_wrap,
    "table-wrap-group": _table_wrap,
    "tex-math": _tex,
    "title": _title_or_label,
    "xref": _xref,
}
