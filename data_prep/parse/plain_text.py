"""Mixed XML content (text with inline markup and formulas) → one line of plain text, with nothing lost or glued.

The rules, in the order in which a reader would ask:

- ``b i u`` and unknown elements: their text, in place (``<i>p</i>53`` → ``p53``).
- ``sub``, ``sup``: their text, in place (``CO<sub>2</sub>`` → ``CO2``, ``Ca<sup>2+</sup>`` → ``Ca2+``), except where
  two numbers would run together: ``10<sup>-5</sup>`` → ``10^-5``, ``7<sub>10</sub>`` → ``7_10``,
  ``log<sub>2</sub>10`` → ``log2 10``.
- MathML: on one line, from its structure (``msup`` → ``x^2``, ``mfrac`` → ``a/b``), with a space where it would
  otherwise touch a word, and where words in it would touch a letter or a digit (``x if y``, ``log n``).
- Characters are composed (NFC, not NFKC: that would fold superscripts into digits and change numbers), every run of
  white space (thin and no-break spaces too) becomes one space, soft hyphens and zero-width characters go.
"""

import re
import unicodedata

from lxml.etree import _Element

from data_prep.parse.refusal import Refused

INVISIBLE = ("\u00ad", "\u200b", "\u2060", "\ufeff")  # soft hyphen, zero-width space, word joiner, BOM
USUAL_SPACES = ("\u00a0", "\u2009", "\u200a", "\u202f", "\n")  # no-break, thin, hair, narrow no-break
EXPONENT = re.compile(r"\s*[-+\u2212\u2013]?\s*\d")
BINARY = {"msub": "_", "msup": "^", "munder": "_", "mover": "^", "mfrac": "/"}
TERNARY = {"msubsup": "_^", "munderover": "_^"}
SOFT = "\x06"  # in a formula, and never in XML: a space if letters or digits stand on both sides of it, else nothing
SPACE_WANTED = re.compile(f"(?<=[^\\W_]){SOFT}+(?=[^\\W_])")
WORD = re.compile(r"[^\W\d_]{2}")


def plain_text(element: _Element | None) -> str:
    """The text of an element on one line; empty when there is none.

    Raises:
        Refused: an entity stands in the text that the file does not define: what it stood for cannot be known; or
            elements lie deeper in each other than Python can follow.
    """
    if element is None:
        return ""
    if len(element) == 0:
        return normalise(element.text or "")
    parts: list[str] = []
    try:
        _walk(element, parts)
    except RecursionError:
        raise Refused("elements of a text lie too deep in each other") from None
    return normalise("".join(parts))


def normalise(text: str) -> str:
    """Composed characters, single spaces, nothing invisible."""
    if text.isascii():
        # Four searches cost less than one split. In XML no other white space is ASCII.
        if not ("  " in text or "\n" in text or "\t" in text or "\r" in text):
            return text.strip(" ")
    else:
        regular = text.isprintable()  # no white space but U+0020, nothing invisible
        if not regular:
            for character in INVISIBLE:
                text = text.replace(character, "")
            for character in USUAL_SPACES:
                text = text.replace(character, " ")
            regular = text.isprintable()
        text = unicodedata.normalize("NFC", text)
        if regular and "  " not in text:
            return text.strip(" ")
    return " ".join(text.split())


def _walk(element: _Element, parts: list[str]) -> None:
    if element.text:
        parts.append(element.text)
    for child in element:
        name = local_name(child)
        if name in ("sub", "sup"):
            _script(child, name, parts)
        elif name == "math":
            before = " " if _last_character(parts).isalnum() else ""
            after = " " if (child.tail or "")[:1].isalnum() else ""
            parts.append(f"{before}{formula(child)}{after}")
        elif name == "DispFormula":
            inner: list[str] = []
            _walk(child, inner)
            parts.append(f" {''.join(inner)} ")
        elif name is not None:
            _walk(child, parts)
        if child.tail:
            parts.append(child.tail)


def local_name(element: _Element) -> str | None:
    """The tag without its namespace or prefix; None for a comment or a processing instruction."""
    tag = element.tag
    if isinstance(tag, str):
        return tag.rpartition("}")[2].rpartition(":")[2]
    if type(element).__name__ == "_Entity":
        raise Refused(f"the entity {element.text} is not defined in the file")
    return None


def _script(element: _Element, name: str, parts: list[str]) -> None:
    inner: list[str] = []
    _walk(element, inner)
    text = "".join(inner)
    before = _last_character(parts)
    if before.isdigit() and EXPONENT.match(text):
        text = ("^" if name == "sup" else "_") + text.strip()
    after = (element.tail or "")[:1]
    parts.append(f"{text} " if after.isdigit() and text[-1:].isdigit() and before else text)


def _last_character(parts: list[str]) -> str:
    for part in reversed(parts):
        if part:
            return part[-1]
    return ""


def formula(element: _Element) -> str:
    """A MathML element as a line of text."""
    return SPACE_WANTED.sub(" ", _math(element)).replace(SOFT, "")


def _math(element: _Element) -> str:
    name = local_name(element)
    if name is None:
        return ""
    if name == "mspace":
        return "" if element.get("width", "").startswith("-") else SOFT
    children = [child for child in element if local_name(child) is not None]
    if name == "semantics":  # the other children say the same again, as TeX or as content
        return _math(children[0]) if children else ""
    if not children:
        return _token(name, element.text or "")
    texts = [_math(child) for child in children]
    if name in BINARY and len(texts) == 2:
        return _grouped(texts[0]) + (BINARY[name] + _grouped(texts[1]) if texts[1] else "")
    if name in TERNARY and len(texts) == 3:
        marks = TERNARY[name]
        return _grouped(texts[0]) + "".join(m + _grouped(t) for m, t in zip(marks, texts[1:], strict=True) if t)
    if name == "msqrt":
        return f"sqrt({_row(texts)})"
    if name == "mroot" and len(texts) == 2:
        return f"root({texts[0]}, {texts[1]})"
    if name == "mfenced":
        return _fenced(element, texts)
    if name == "mmultiscripts":
        return _multiscripts(children)
    own = [element.text or "", *(child.tail or "" for child in children)]  # text between elements is an error, but text
    return _row([part for pair in zip(own, [*texts, ""], strict=True) for part in (" ".join(pair[0].split()), pair[1])])


def _token(name: str, text: str) -> str:
    """A letter, number, sign or word. Words (``max``, ``if``) must not grow onto what stands beside them."""
    line = " ".join(text.split())
    if WORD.search(line) or (name == "mtext" and text and not line):
        return f"{SOFT}{line}{SOFT}"
    return line


def _fenced(element: _Element, texts: list[str]) -> str:
    """``mfenced``: the first separator stands behind the first child, and so on; the last one again and again."""
    separators = "".join(element.get("separators", ",").split())
    inside = texts[0]
    for place, text in enumerate(texts[1:]):
        separator = separators[min(place, len(separators) - 1)] if separators else ""
        inside += (f"{separator} " if separator in (",", ";") else separator) + text
    return element.get("open", "(") + inside + element.get("close", ")")


def _multiscripts(children: list[_Element]) -> str:
    """``<sup>3</sup>He`` and its like: the marks before the base, the base, the marks after it."""
    names = [local_name(child) for child in children]
    split = names.index("mprescripts") if "mprescripts" in names else len(children)
    before = [_math(child).strip(SOFT) for child in children[split + 1 :]]
    after = [_math(child) for child in children[1:split]]
    marked = [("_", "^")[index % 2] + _grouped(text) for index, text in enumerate(after) if text]
    return "".join(before) + _math(children[0]).strip(SOFT) + "".join(marked)


def _row(texts: list[str]) -> str:
    """Side by side; words apart, single letters and digits together (``m a x`` is how MathML writes ``max``)."""
    parts: list[str] = []
    for text in texts:
        if parts and len(parts[-1]) > 1 and len(text) > 1 and parts[-1][-1].isalnum() and text[0].isalnum():
            parts.append(" ")
        if text:
            parts.append(text)
    return "".join(parts)


def _grouped(text: str) -> str:
    """In brackets where what follows would otherwise be read as going with the last part alone."""
    text = text.strip(SOFT)
    one = len(text) <= 1 or text.isalnum() or re.fullmatch(r"[-+\u2212]?[\w.]+|\(.*\)", text)
    return text if one else f"({text})"
