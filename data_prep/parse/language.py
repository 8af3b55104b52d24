"""In which language an article is written: what its file says, or else a guess from its text.

py3langid reads 0.9 MB a second and takes half a second to load, so it is asked only where the file says nothing. It
knows 97 languages, none is ruled out beforehand, and it has no chance in it: the same text gives the same answer.
"""

import re

TAG = re.compile(r"^\s*([A-Za-z]{2})(?:[-_].*)?\s*$")
ENOUGH = 1000  # characters of text beside the title
TOO_FEW = 20  # letters: a single word is English, Dutch and Afrikaans alike
LETTER = re.compile(r"[^\W\d_]")


def from_tag(tag: str | None) -> str | None:
    """``en-US`` and ``EN`` → ``en``; None for what does not begin with two letters alone."""
    match = TAG.match(tag or "")
    return match[1].lower() if match else None


def detect(title: str, text: str) -> str | None:
    """Two letters; None when there is too little text to go by."""
    sample = f"{title}\n{text[:ENOUGH]}"
    if len(LETTER.findall(sample)) < TOO_FEW:
        return None
    import py3langid

    return str(py3langid.classify(sample)[0])
