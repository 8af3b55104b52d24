"""Two models on the same texts, document by document, from their ``NAME.texts.jsonl``."""

import json

from base import storage
from base.errors import UserError
from eval.bits_per_byte import Difference, DocumentScore, difference


def compare_texts(a: str, b: str) -> dict[str, Difference]:
    """How many bits a byte B needs more than A, by set of texts that both were measured on; places are NAME.json.

    Raises:
        UserError: a file is not of this kind, or a set of the same name has other documents.
    """
    of_a, of_b = _read(a), _read(b)
    found = {}
    for name in of_a:
        if name in of_b:
            try:
                found[name] = difference(of_a[name], of_b[name])
            except UserError as error:
                remedy = "measure one of the two again, with the same texts_limit_bytes"
                raise UserError(f"{name}: {error}; {remedy}") from None
    return found


def lines_of(found: dict[str, Difference]) -> list[str]:
    """One a set, to be printed."""
    lines = []
    for name, one in found.items():
        limits = f" [{one.ci95[0]:+.4f}, {one.ci95[1]:+.4f}]" if one.ci95 is not None else ""
        where = f"{one.documents:,} documents, {one.bytes:,} bytes"
        lines.append(f"{name}: B - A {one.bits_per_byte:+.4f}{limits} bits per byte, paired by document; {where}")
    return lines


def _read(place: str) -> dict[str, list[DocumentScore]]:
    """By set; nothing where none was measured."""
    texts = f"{place.removesuffix('.json')}.texts.jsonl"
    found: dict[str, list[DocumentScore]] = {}
    if not storage.exists(texts):
        return found
    for number, line in enumerate(storage.read_bytes(texts).splitlines(), start=1):
        try:
            one = DocumentScore(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise UserError(f"{texts}, line {number}: no document of an evaluation: {error}") from None
        found.setdefault(one.texts, []).append(one)
    return found
