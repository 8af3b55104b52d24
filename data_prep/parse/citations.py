"""Citations and images taken out of a line without a trace: no ``[]``, no ``(, )``, no `` .``, no glued words.

The walk over the XML marks each citation (characters that cannot occur in XML stand before and after it); here, with
the whole line in view, they go together with the brackets, commas and dashes that served them alone. What remains of
the sentence stays: ``Smith et al. (2009) showed`` → ``Smith et al. showed``; a name or a year outside of brackets that
is the sentence's subject is kept (``as Smith 2009 showed``). Of a letter or formula that is only an image nothing
is left, nor of what served it alone: ``the rates (IMAGE, IMAGE) are`` → ``the rates are``.
"""

import re

OPEN, CLOSE, GAP = "\x02", "\x03", "\x04"
NOTE_MARK = OPEN + CLOSE  # the mark of a footnote: nothing of it is ever kept
PICTURE = "\x05"  # a letter or formula that is only an image
# What goes with images, in a line with single spaces: the brackets that hold nothing else, the marks behind one at the
# beginning of a line or bracket, the space and the comma before one that stands before a mark.
LOST_BRACKET = re.compile(r" ?[(\[](?:(?:[ ,;]|and |or )*\x05)+ ?[)\]]")
LOST_FIRST = re.compile(r"(^|[(\[])(?: ?\x05[ ,;.:]*)+")
LOST_PICTURE = re.compile(r"(?: ?[,;:] ?\x05| ?\x05)++(?P<served> ?(?=[.,;:!?)\]]))?")

MARKED = r"\x02[^\x03]*\x03"
BETWEEN = r"[\s,;.:&/+*\u2010-\u2015\u2212-]"
WORDS = (
    r"(?:and|or|to|in|by|see|also|reviewed|review|reviews|reference|references|refs?|cf|eg|e\.g|i\.e|for|an|a|example|"
    r"from|as|ref)(?![^\W_])"
)
SQUARE = re.compile(rf"\[(?:{BETWEEN}|{WORDS}|\d)*{MARKED}(?:{BETWEEN}|{WORDS}|\d|{MARKED})*\]")
ROUND = re.compile(rf"\((?:{BETWEEN}|{WORDS})*(?:{MARKED}|{GAP})(?:{BETWEEN}|{WORDS}|{MARKED}|{GAP})*\)")
ONE = re.compile(MARKED)
SAYS_SOMETHING = re.compile(r"[^\W\d_]{2}|(?<!\d)(?:1[89]|20)\d\d(?!\d)")
ONLY_MARKED = re.compile(rf"(?:{BETWEEN}|[\d()\[\]]|{MARKED})*")
SEPARATORS = re.compile(r"(?:[\s,;&\u2010-\u2015\u2212-]|and(?![^\W_])|to(?![^\W_]))*")


def mark(text: str) -> str:
    """A citation as it stands in a line until the line is finished."""
    return OPEN + text.replace(OPEN, "").replace(CLOSE, "") + CLOSE


def marked_only(text: str) -> bool:
    """Whether there are citations in a text, and nothing else but what separates them."""
    return OPEN in text and ONLY_MARKED.fullmatch(text) is not None


def without_citations(text: str) -> str:
    """The line without its marked citations, and without what served an image alone."""
    if PICTURE in text:
        text = LOST_FIRST.sub(r"\1", LOST_BRACKET.sub("", " ".join(text.split())))
        text = LOST_PICTURE.sub(_without_pictures, text)
    if OPEN not in text:
        return text
    text = SQUARE.sub(GAP, text)
    text = ROUND.sub(GAP, text)
    text = ONE.sub(_kept_if_it_says_something, text)
    return text if GAP not in text else _closed(text.split(GAP))


def _without_pictures(lost: re.Match[str]) -> str:
    """What is left of images side by side: nothing before a mark, else the first mark between them, or their spaces."""
    if lost["served"] is not None:
        return ""
    marks = lost[0].replace(PICTURE, "")
    return marks if marks.isspace() or not marks else f"{marks.strip()[0]} "


def _closed(pieces: list[str]) -> str:
    """The pieces of a line between the gaps, as if there had been none."""
    line = pieces[0]
    for number, piece in enumerate(pieces[1:], 2):
        if number < len(pieces) and SEPARATORS.fullmatch(piece):
            continue  # what stood between two citations
        left, right = line.rstrip(), piece.lstrip()
        apart = len(left) < len(line) or len(right) < len(piece)
        if left.endswith(("[", "(")):
            right = right.lstrip(" ,;\n\t")
            if not right.startswith(("]", ")")):
                line = left + right
                continue
            apart = apart or left[-2:-1].isspace()
            left, right = left[:-1].rstrip(), right[1:]
            apart, right = apart or right[:1].isspace(), right.lstrip()
        if right.startswith(("]", ")")):
            line = left.rstrip(" ,;\n\t") + right
        elif right.startswith((".", ",", ";", ":", "!", "?")):
            comma = left.endswith(",") and right.startswith((",", "."))
            full_stop = left.endswith(".") and right.startswith(".") and not left.endswith("..")
            line = (left[:-1].rstrip() if comma or full_stop else left) + right
        else:
            touching = right[:1].isalnum() and (left[-1:].isalnum() or left.endswith((".", ",", ";", ":", ")", "]")))
            line = f"{left} {right}" if apart or touching else left + right
    return line


def _kept_if_it_says_something(match: re.Match[str]) -> str:
    text = match[0][1:-1]
    return text if SAYS_SOMETHING.search(text) else GAP
