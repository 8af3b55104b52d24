"""The names of articles, ``pmid:123``, ``pmcid:PMC123`` and ``doi:10.…``, and the rows that carry them.

An article has several names, and may stand in a corpus as an abstract, as a full text or as both. The columns ``pmid``,
``pmcid`` (digits) and ``doi`` of a row hold its names.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from base import storage
from base.errors import UserError

FORM = re.compile(r"pmid:(?P<pmid>\d{1,18})|pmcid:(?:pmc)?(?P<pmcid>\d{1,18})|doi:(?P<doi>10\.\S+)")
COMMENT = re.compile(r"(^|\s)#.*")  # a DOI may hold the sign, but no space before it
TYPES = {"pmid": pa.int64(), "pmcid": pa.int64(), "doi": pa.string()}


def normal_form(text: str) -> str:
    """An id as documents have it, from one as people write it: case, and space around its parts, do not matter.

    Raises:
        ValueError: it is none; says which forms there are.
    """
    match = FORM.fullmatch(re.sub(r"^(\w+)\s*:\s*", r"\1:", text.strip().lower()))
    if match is None:
        raise ValueError(f"{text!r} is no id of a document: give pmid:123, pmcid:PMC123 or doi:10.…")
    ((kind, value),) = ((kind, value) for kind, value in match.groupdict().items() if value)
    return name_of(kind, value if kind == "doi" else int(value))


def read_names(place: str) -> list[str]:
    """The names in a file, local or ``s3://``, in their normal form, each once, in their order: one a line, with blank
    lines and comments (``#``) between and behind them.

    Raises:
        UserError: the file cannot be read or is not UTF-8 text, or lines hold no name; all of these lines are told.
    """
    try:
        text = storage.read_bytes(place).decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{place}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{place}: not in UTF-8: {error}") from None
    names, wrong = [], []
    for number, line in enumerate(text.splitlines(), 1):
        if content := COMMENT.sub("", line).strip():
            try:
                names.append(normal_form(content))
            except ValueError as error:
                wrong.append(f"{place}:{number}: {error}")
    if wrong:
        raise UserError("\n".join(wrong))
    return list(dict.fromkeys(names))


def name_of(kind: str, value: Any) -> str:
    """``pmid``, 123 → ``pmid:123``"""
    return {"pmid": "pmid:{}", "pmcid": "pmcid:PMC{}", "doi": "doi:{}"}[kind].format(str(value).lower())


def names_of(row: Mapping[str, Any]) -> set[str]:
    """All names that a row carries: in its columns, and its own id where that is one and no place in a file."""
    names = {name_of(kind, row[kind]) for kind in TYPES if row.get(kind) is not None}
    return names | {row["id"]} if row.get("id") and FORM.fullmatch(row["id"].lower()) else names


@dataclass(frozen=True, eq=False)
class Names:
    """Names to look for, by the column in which they stand, as that column holds them; DOIs in lower case."""

    pmid: pa.Array
    pmcid: pa.Array
    doi: pa.Array

    @classmethod
    def of(cls, names: Iterable[str]) -> "Names":
        """From names in their normal form."""
        found: dict[str, list[Any]] = {kind: [] for kind in TYPES}
        for name in names:
            kind, _, value = name.partition(":")
            found[kind].append(value if kind == "doi" else int(value.removeprefix("PMC")))
        return cls(**{kind: pa.array(values, TYPES[kind]) for kind, values in found.items()})

    def carried_by(self, rows: pa.RecordBatch | pa.Table) -> NDArray[np.bool_]:
        """Which of the rows carry one of the names; all three columns must be there."""
        carry = np.zeros(rows.num_rows, dtype=bool)
        for kind in TYPES:
            carry |= np.asarray(self.in_column(kind, rows[kind]))
        return carry

    def in_column(self, kind: str, column: Any) -> Any:
        """Which rows of one column (an array, or an expression that stands for it) are among the names."""
        return pc.is_in(pc.utf8_lower(column) if kind == "doi" else column, value_set=getattr(self, kind))
