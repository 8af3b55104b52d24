"""Two models on the same texts, document by document."""

from base.errors import UserError
from eval.bits_per_byte import Difference, difference
from eval.records import Record, read_documents


def compare_texts(a: Record, b: Record) -> dict[str, Difference]:
    """How many bits a byte B needs more than A, by set of texts that both were measured on.

    Raises:
        UserError: a record's documents cannot be used, or a set of the same name has other documents.
    """
    shared = [name for name in a.texts if name in b.texts]
    if not shared:
        return {}
    of_a, of_b = read_documents(a), read_documents(b)
    found = {}
    for name in shared:
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
