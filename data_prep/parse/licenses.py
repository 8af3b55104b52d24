"""Under which licence an article may be used: read from metadata codes, or with care from the article's own XML.

Rules for the XML, each with its reason:

- Only ``front/article-meta`` counts: figures, sub-articles and references carry licences of their own.
- Everything that a licence names is gathered first, links and words alike, and **the most restrictive wins**. BioMed
  Central's texts name CC BY for the article and link CC0 for the data, so the first or the freest link is wrong.
- Words matter where there is no link (a third of PLOS) and where they narrow a link ("non-commercial use").
- CC0 and the public domain count only outside of sentences about data, metadata or supplements: a publisher who keeps
  all rights in the article may waive those in its data.
- ``license-type`` is free text: it may narrow what was found, never grant anything.
- What is not understood is None, and it is the policy's business to leave it out.
"""

import re
from collections.abc import Collection
from typing import get_args

from lxml.etree import _Element

from data_prep.parse.plain_text import local_name
from data_prep.schema import License

CODES: tuple[License, ...] = get_args(License)
# From free to narrow. TDM is fair use for text mining only.
NARROWNESS: tuple[License, ...] = (
    "public domain", "CC0", "CC BY", "CC BY-SA", "CC BY-ND", "CC BY-NC", "CC BY-NC-SA", "CC BY-NC-ND", "TDM",
)  # fmt: skip
POLICIES: dict[str, tuple[License, ...]] = {
    # NLM's group "commercial use allowed".
    "commercial": ("public domain", "CC0", "CC BY", "CC BY-SA", "CC BY-ND"),
    # Anyone may pass on adapted copies (tokenised shards are such) for any purpose: no NC, no ND.
    "redistributable": ("public domain", "CC0", "CC BY", "CC BY-SA"),
}
CC_URL = re.compile(r"creativecommons\.org/licen[cs]es/((?:by|nc|nd|sa)(?:-(?:by|nc|nd|sa))*)(?![a-z-])", re.I)
CC0_URL = re.compile(r"creativecommons\.org/(?:publicdomain/zero|licen[cs]es/(?:zero|cc0))", re.I)
MARK_URL = re.compile(r"creativecommons\.org/(?:publicdomain/mark|licen[cs]es/publicdomain)", re.I)
# What a licence calls itself follows the words "Creative Commons" or the letters CC, up to the word licence.
NAMED = re.compile(r"(?:creative\s+commons|\bCC(?=[\s-]*(?:BY\b|0|attribution)))([^;:)]{0,90})", re.I)
LICENCE = re.compile(r"\blicen[cs]e", re.I)
ATTRIBUTION = re.compile(r"attribution|\bBY\b", re.I)
NON_COMMERCIAL = re.compile(r"non[\s\u2010-\u2014-]*commercial|\bNC\b", re.I)
NO_DERIVATIVES = re.compile(r"no[\s\u2010-\u2014-]*deriv|\bND\b", re.I)
SHARE_ALIKE = re.compile(r"share[\s\u2010-\u2014-]*alike|\bSA\b", re.I)
ZERO = re.compile(r"\bCC[\s-]?0\b|\bzero\b|public\s+domain\s+(?:declaration|dedication)", re.I)
BOTH_USES = re.compile(r"\bcommercial(?:ly)?\s*(?:and|or|as well as|/)\s*non[\s\u2010-\u2014-]*commercial", re.I)
FOR_NON_COMMERCIAL_USE = re.compile(
    r"non[\s\u2010-\u2014-]*commercial(?:ly)?\s+(?:re-?)?(?:use|purposes?|distribution)", re.I
)
PUBLIC_DOMAIN = re.compile(
    r"\b(?:is|lies|are)\s+in\s+the\s+public\s+domain|\bpublic\s+domain\s+(?:article|work|mark)"
    r"|\bUS\s+government\s+work|\bwork\s+of\s+the\s+(?:US|U\.S\.|United\s+States)\s+government"
    r"|\bfree\s+of\s+all\s+copyright",
    re.I,
)
ABOUT_DATA = re.compile(
    r"\b(?:meta)?data(?:sets?|bases?)?\b|\bsupplement|\b(?:additional|supporting)\s+(?:files?|information)", re.I
)
SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n")
LINK = "\x02"  # stands for a link in a text, and never in XML
NO_CC = re.compile(r"\s*no[\s_-]*cc[\s_-]*code\s*", re.I)


def from_code(text: str | None) -> License | None:
    """A code of NLM's metadata (``CC BY 4.0``, ``CC-BY-NC-ND``, ``CC0``, ``TDM``) without its version.

    None for what is no licence that we know (``NO-CC CODE``, an empty field).
    """
    words = re.sub(r"[\s_/-]+", " ", (text or "").strip().upper())
    if words in ("TDM", "CC0", "CC ZERO", "CC 0"):
        return "TDM" if words == "TDM" else "CC0"
    if words in ("PUBLIC DOMAIN", "PD", "PDM", "CC PDM", "CC PUBLIC DOMAIN"):
        return "public domain"
    words = re.sub(r"\s*\d+(?:\.\d+)?(?: (?:INTERNATIONAL|UNPORTED|IGO|[A-Z]{2}))?$", "", words)
    match = re.fullmatch(r"(?:CC0|CC ?((?:BY|NC|ND|SA)(?: (?:BY|NC|ND|SA))*))", words)
    if match is None:
        return None
    return _composed(match[1].split()) if match[1] else "CC0"


def has_none(code: str | None) -> bool:
    """Whether NLM's metadata says that there is no Creative Commons licence: ``NO-CC CODE``."""
    return NO_CC.fullmatch(code or "") is not None


def from_permissions(meta: _Element | None) -> License | None:
    """The licence that an ``article-meta`` names in its own ``permissions`` (or, before NLM 2.3, beside them)."""
    if meta is None:
        return None
    places = [meta, *meta.findall("{*}permissions")]
    licenses = [found for place in places for found in place.iterchildren("{*}license", "{*}license_ref")]
    found: set[License] = set()
    for license in licenses:
        found |= _named_in(license)
    if not found:
        statements = [found for place in places for found in place.iterchildren("{*}copyright-statement")]
        for statement in statements:
            found |= _named_in(statement)
    for license in licenses if found else ():
        hint = from_code(license.get("license-type"))
        found |= {hint} if hint else set()
    return max(found, key=NARROWNESS.index, default=None)


def permitted(code: License | None, policy: str | Collection[License]) -> bool:
    """Whether a policy lets an article in.

    Args:
        code: as ``from_code`` and ``from_permissions`` give it; None (unknown) is let in by ``all`` alone.
        policy: ``commercial`` (public domain, CC0, CC BY, CC BY-SA, CC BY-ND), ``redistributable`` (those without
            CC BY-ND: anyone may pass on adapted copies for any purpose), ``all``, or a list of codes.
    """
    if isinstance(policy, str):
        return policy == "all" or code in POLICIES[policy]
    return code in policy


def _named_in(element: _Element) -> set[License]:
    """Every licence that an element names, in links or in words."""
    if element.get("specific-use") == "tdm":  # ali:license_ref for the miners among the readers
        return {"TDM"}
    sentences = _sentences(element)
    everything = " ".join(f"{words} {links}" for words, links in sentences)
    own = " ".join(f"{words} {links}" for words, links in sentences if not ABOUT_DATA.search(words))
    words = " ".join(words for words, _ in sentences)
    own_words = " ".join(words for words, _ in sentences if not ABOUT_DATA.search(words))
    found: set[License] = {_composed(match[1].lower().split("-")) for match in CC_URL.finditer(everything)} - {None}  # type: ignore[assignment]
    if CC0_URL.search(own):
        found.add("CC0")
    if MARK_URL.search(own):
        found.add("public domain")
    found |= {code for code in _named_in_words(words) if code != "CC0"} | _named_in_words(own_words)
    if not found and PUBLIC_DOMAIN.search(own_words):
        found.add("public domain")
    if found and FOR_NON_COMMERCIAL_USE.search(BOTH_USES.sub(" ", words)):
        found.add("CC BY-NC")
    return found


def _sentences(element: _Element) -> list[tuple[str, str]]:
    """The words of each sentence, and the links that stand in it."""
    parts: list[str] = []
    links: list[str] = []
    _gather(element, parts, links)
    found, begin = [], 0
    for sentence in SENTENCE.split("".join(parts)):
        end = begin + sentence.count(LINK)
        found.append((" ".join(sentence.replace(LINK, "").split()), " ".join(links[begin:end])))
        begin = end
    return found


def _gather(element: _Element, parts: list[str], links: list[str]) -> None:
    """Text with LINK where a link stands; a paragraph, or what is none of the sentences around it, on its own line."""
    apart = local_name(element) in ("license", "license-p", "license_ref", "p")
    parts.append("\n" if apart else "")
    for key, value in element.attrib.items():
        if str(key).endswith("href"):
            parts.append(LINK)
            links.append(str(value))
    parts.append("\n" if local_name(element) == "license" else "")
    parts.append(_on_one_line(element.text))
    for child in element:
        if local_name(child) is not None:
            _gather(child, parts, links)
        parts.append(_on_one_line(child.tail))
    parts.append("\n" if apart else "")


def _on_one_line(text: str | None) -> str:
    return re.sub(r"\s", " ", text or "")


def _named_in_words(words: str) -> set[License]:
    codes = (_in_words(LICENCE.split(match[1])[0]) for match in NAMED.finditer(words))
    return {code for code in codes if code}


def _in_words(name: str) -> License | None:
    """``Attribution-NonCommercial 4.0 International`` → ``CC BY-NC``."""
    if ATTRIBUTION.search(name):
        narrowed = (("NC", NON_COMMERCIAL), ("ND", NO_DERIVATIVES), ("SA", SHARE_ALIKE))
        return _composed(["BY", *(letters for letters, pattern in narrowed if pattern.search(name))])
    if ZERO.search(name) or name.startswith("0"):
        return "CC0"
    return None


def _composed(letters: Collection[str]) -> License | None:
    """``{by, nd, nc}`` in any order → ``CC BY-NC-ND``; the oldest licences without BY asked for it all the same."""
    having = {one.upper() for one in letters}
    code = "CC BY" + "".join(f"-{one}" for one in ("NC", "SA", "ND") if one in having)
    return next((known for known in CODES if known == code), None)
