"""Which sections of a body are about the paper rather than its matter, and are left out.

A title decides only where statements about the paper stand: over a section that lies in no other, or in the last one of
them. In a review, Results may have a part "Sources of funding", which is its matter.

What is said of methods stays, ethics committees and consent among it ("Ethics", "Ethical considerations"); the
statements that journals ask for in a form go ("Ethics approval", "Consent for publication", "Competing interests").
Lists of abbreviations go with the glossary, appendices (mostly questionnaires) with those of ``back``.
"""

import re

from lxml.etree import _Element

from data_prep.parse.plain_text import local_name

TYPES_LEFT_OUT = frozenset([
    "ack", "acknowledgement", "acknowledgements", "acknowledgment", "acknowledgments", "additional-information",
    "author-contribution", "author-contributions", "author-information", "authors-contributions", "coi",
    "coi-statement", "competing-interest", "competing-interests", "conflict", "conflict-of-interest",
    "conflicts-of-interest", "data-availability", "ethics-statement", "financial-disclosure", "funding",
    "funding-information", "funding-statement", "supplementary-material", "supplementary-materials",
    "supporting-information",
])  # fmt: skip
# The title in small letters alone, without its number, spaces and marks: ``authors' contributions``, ``3. Funding``.
TITLES_LEFT_OUT = re.compile(
    r"""(?: statements?(?:of|on) )? (?:
    # interests
    (?: declarations?of )? (?: potential )? (?: competing | conflict(?:ing|s)?(?:of)? | dualityof ) (?: financial )?
        interests? (?: statement | disclosures? | declaration )? (?: and(?:funding|disclosures?) )?
    | declarations? (?: ofinterests? )? | (?: financial | author )? disclosures? (?: statement | ofinterests? )?
    | transparencydeclarations?
    # money
    | (?: sourcesof | sourceof )? funding (?: sources? | statement | information | support | disclosure )?
        (?: anddisclosures? )?
    | (?: sourcesof | sourceof )? (?: financial | grant ) support (?: statement )?
    | (?: financialsupport )? (?: and )? sponsorship
    | roleof(?:the)? (?: fundingsources? | funders? | sponsors? )
    # people
    | authors? (?: contributions? | contributorship | information | details | roles )
    | contributors | contributorship (?: statement )? | contributions? (?: toauthorship )?
    | acknowledge?ments? (?: and(?:funding|disclosures?) )?
    # what lies elsewhere
    | (?: electronic )? (?: supporting | supplementary | supplemental | additional )
        (?: information | materials? | data | files? | content ) \d* (?: available )? | appendi(?:x|ces) [a-z\d]?
    | (?: data | materials? | code ) (?: and(?:data|materials?|code) )? (?: availability | sharing | accessibility )
        (?: statement )?
    | availabilityof(?:the)? (?: supporting )? (?: data | materials? ) (?: and(?:data|materials?) )? (?: statement )?
    | (?: data )? access(?:todata)
    # forms of consent
    | ethics?statement | ethic(?:s|al)approval (?: and(?:informed)?consent(?:toparticipate)? )?
    | consent(?:for|to)(?:publication|publish|participate) | patientconsent (?: forpublication )?
    | compliancewithethical(?:standards|guidelines)
    # the publisher's
    | (?: listof )? (?: nonstandard )? abbreviations? (?: andacronyms )? (?: used )?
    | publishersnote | prepublicationhistory | provenanceandpeerreview | (?: open )? peerreview (?: history )?
    | articlehistory | howtocitethisarticle | copyright | openaccess
    )""",
    re.X,
)
NUMBERING = re.compile(r"^(?:\d+(?:\.\d+)*|[ivx]+|[a-z])[.)]\s+", re.I)
NOT_LETTERS = re.compile(r"[\W_]+")


def is_left_out(section: _Element) -> bool:
    """Whether a section is about the paper rather than its matter, by its type or its title."""
    kinds = re.split(r"[|\s]+", (section.get("sec-type") or "").lower())
    if not TYPES_LEFT_OUT.isdisjoint(kinds):
        return True
    title = section.find("{*}title")
    if title is None:
        return False
    words = NUMBERING.sub("", "".join(title.itertext()).strip())
    return TITLES_LEFT_OUT.fullmatch(NOT_LETTERS.sub("", words.lower())) is not None and _is_outermost_or_last(section)


def _is_outermost_or_last(section: _Element) -> bool:
    """Whether it lies in no other section, or in one behind which nothing is left but what is left out."""
    outer = section
    while (parent := outer.getparent()) is not None and local_name(parent) == "sec":
        outer = parent
    return outer is section or all(is_left_out(later) for later in outer.itersiblings("{*}sec"))
