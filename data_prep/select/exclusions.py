"""``select.exclude``: articles that must not be in the corpus, by whichever record they come.

A takedown names an article by one of its names, and the article may be there as an abstract and as a full text, one of
which lacks that name. So out goes every row that carries a listed name, and every row that has any name in common with
such a row. Names of records that a later one replaced do not count for the latter: they may have been corrected.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data_prep.identifiers import TYPES, Names, names_of
from data_prep.select.keys import ParsedFile
from data_prep.select.reasons import KEPT


def names_of_articles(
    listed: Sequence[str], files: Sequence[ParsedFile], fates: Sequence[NDArray[np.uint8]]
) -> tuple[list[str], list[str]]:
    """All names of the listed articles, sorted; and the listed ones that no record carries.

    Args:
        fates: for each file the fate of each row, as far as identifiers decide it.
    """
    wanted, found, more = Names.of(listed), set[str](), set(listed)
    for file, fate in zip(files, fates, strict=True):
        rows = pq.read_table(file.rows, columns=["kind", *TYPES])
        carry = wanted.carried_by(rows) & np.asarray(pc.not_equal(rows["kind"], "deletion"))
        for row, counts in zip(rows.filter(carry).to_pylist(), fate[carry] == KEPT, strict=True):
            found |= names_of(row)
            more |= names_of(row) if counts else set()
    return sorted(more), [name for name in listed if name not in found]
