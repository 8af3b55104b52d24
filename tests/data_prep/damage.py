"""Damage to files: of any kind to any, and of many kinds to PubMed, some of it well-formed in an unusual spelling."""

import re
from collections.abc import Callable, Sequence
from random import Random

PIECES = (
    b"<", b">", b"&", b"&x;", b"&#112;", b"&amp;", b"</PMID>", b"<PMID>", b"\x00", b"\xff", b"\xc2\xa0", b"\r\n",
    b"]]>", b"<![CDATA[", b"<!--", b"<!-- </PubmedArticle> -->", b"<!-- </AuthorList><Language>x</Language> -->",
    b"<?x </Article>?>", b"<![CDATA[</Abstract>]]>", b"<DeleteCitation>", b"<DeleteCitation/>", b"<m:x/>",
    b"<x xmlns='y'/>", b"<i>i</i>", b"<PubmedArticle/>", b"<MedlineCitation>",
    b'<ArticleId IdType="pmc">PMC9</ArticleId>', b"<Abstract/>", b"<Journal>",
    b"<ArticleId IdType='pmc'>PMC8</ArticleId>", b'<ArticleId IdType="&#112;mc">PMC7</ArticleId>',
    b"<Language>fre</Language>", b'<CommentsCorrections RefType="RetractionIn"/>',
    b"<ArticleId IdType = 'pmc' >PMC6</ArticleId>", b'<a b=">"/>',
    b"<AuthorList><AuthorList></AuthorList><Year></Year ></AuthorList><Language>ger</Language><Year></Year>",
)  # fmt: skip
TAG = re.compile(rb"<[^<>!?]+>")
ELEMENT = re.compile(
    rb"<(\w+)[^<>]*>[^<]*</\1>|<(\w+List|Journal|Abstract|PubDate|Article|PubmedData)\b[^>]*>.*?</\2>", re.S
)


def damaged_bytes(data: bytes, random: Random, pieces: Sequence[bytes], longest_cut: int) -> bytes:
    """A bit flipped, a piece put in, a part shorter than ``longest_cut`` taken out, or the rest cut off."""
    changed = bytearray(data)
    place = random.randrange(len(changed))
    match random.randrange(4):
        case 0:
            changed[place] ^= 1 << random.randrange(8)
        case 1:
            changed[place:place] = random.choice(pieces)
        case 2:
            del changed[place : place + random.randrange(1, longest_cut)]
        case 3:
            del changed[place:]
    return bytes(changed)


def damaged(data: bytes, random: Random) -> bytes:
    """The file with one to three things done to it."""
    for _ in range(random.choice((1, 1, 2, 3))):
        data = random.choice(WAYS)(data, random) or b"<"
    return data


def _flip(data: bytes, random: Random) -> bytes:
    place = random.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << random.randrange(8)]) + data[place + 1 :]


def _insert(data: bytes, random: Random) -> bytes:
    place = random.randrange(len(data))
    return data[:place] + random.choice(PIECES) + data[place:]


def _insert_between_tags(data: bytes, random: Random) -> bytes:
    place = _place(TAG, data, random)[random.randrange(2)]
    return data[:place] + random.choice(PIECES) + data[place:]


def _delete(data: bytes, random: Random) -> bytes:
    place = random.randrange(len(data))
    return data[:place] + data[place + random.randrange(1, 200) :]


def _truncate(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data))]


def _delete_element(data: bytes, random: Random) -> bytes:
    begin, end = _place(ELEMENT, data, random)
    return data[:begin] + data[end:]


def _copy_element(data: bytes, random: Random) -> bytes:
    begin, end = _place(ELEMENT, data, random)
    place = _place(TAG, data, random)[1]
    return data[:place] + data[begin:end] + data[place:]


def _wrap_element(data: bytes, random: Random) -> bytes:
    begin, end = _place(ELEMENT, data, random)
    match = re.match(rb"<(\w+)", data[begin:end])
    name = match[1] if match else b"x"
    before, after = random.choice(
        ((b"<!--", b"-->"), (b"<![CDATA[", b"]]>"), (b"<x>", b"</x>"), (b"<%b>" % name, b"</%b>" % name))
    )
    return data[:begin] + before + data[begin:end] + after + data[end:]


def _respell_tag(data: bytes, random: Random) -> bytes:
    begin, end = _place(TAG, data, random)
    tag = data[begin:end]
    ways: tuple[Callable[[bytes], bytes], ...] = (
        lambda tag: tag.replace(b'"', b"'"),
        lambda tag: tag[:-1] + b" >",
        lambda tag: tag[:-1] + b"/>",
        lambda tag: tag.replace(b"=", b" = "),
        lambda tag: tag.replace(b'="', b'="&#32;'),
        lambda tag: tag[:-1] + b' more="1">',
        lambda tag: tag[:-1] + b' xmlns="y">',
        lambda tag: tag[:-1] + b" more='<'>",
        lambda tag: tag[:-1] + b" more='>'>",
        lambda tag: tag.replace(b" ", b"\n  "),
        lambda tag: b"<m:" + tag[1:],
        lambda tag: tag.lower(),
    )
    return data[:begin] + random.choice(ways)(tag) + data[end:]


def _place(pattern: re.Pattern[bytes], data: bytes, random: Random) -> tuple[int, int]:
    """Begin and end of a match at a random place; the whole file when there is none."""
    match = pattern.search(data, random.randrange(len(data) + 1)) or pattern.search(data)
    return match.span() if match else (0, len(data))


WAYS = (
    _flip, _insert, _insert_between_tags, _insert_between_tags, _delete, _truncate, _delete_element, _copy_element,
    _copy_element, _wrap_element, _wrap_element, _respell_tag, _respell_tag, _respell_tag,
)  # fmt: skip
