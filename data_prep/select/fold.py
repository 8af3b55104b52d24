"""From many revisions of a citation to the one that counts, whatever the order in which files were read.

NLM's rules: a later file's record replaces an earlier one with the same PMID and version; a deletion removes what its
own file and earlier ones hold, and a later record brings the citation back; of several versions the highest counts.

A deletion removes the version that it names and no other: NLM's DTD has the same ``PMID`` in ``DeleteCitation`` as in a
record, ``Version`` included, so a whole citation is deleted by naming each of its versions. Where version 1 is deleted
and only a higher one is there, nothing goes.
"""

import numpy as np
from numpy.typing import NDArray

COUNTS, REPLACED, OLDER_VERSION, DELETED = 0, 1, 2, 3


def fold(
    pmid: NDArray[np.int64], version: NDArray[np.int32], file: NDArray[np.int32], deletion: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """What becomes of each row.

    Args:
        pmid, version, file, deletion: one entry a row, rows in the order of their files and places; ``file`` numbers
            the files in the order in which they replace each other. Needs about 40 bytes a row in all.

    Returns:
        COUNTS, REPLACED (by a later record of the same version), OLDER_VERSION or DELETED for each row; a row that is
        a deletion gets COUNTS, which means nothing there.
    """
    outcome = np.full(len(pmid), COUNTS, dtype=np.uint8)
    if not len(pmid):
        return outcome
    # A file's deletions come after its records, wherever they stand in it.
    order = np.lexsort((np.arange(len(pmid)), file.astype(np.int64) * 2 + deletion, version, pmid))
    pmid, version, deletion = pmid[order], version[order], deletion[order]

    followed = np.zeros(len(order), dtype=bool)
    followed[:-1] = (pmid[:-1] == pmid[1:]) & (version[:-1] == version[1:])
    next_deletes = np.zeros(len(order), dtype=bool)
    next_deletes[:-1] = deletion[1:]
    sorted_outcome = np.where(followed, np.where(next_deletes, DELETED, REPLACED), COUNTS).astype(np.uint8)

    alive = np.flatnonzero((sorted_outcome == COUNTS) & ~deletion)  # at most one for each PMID and version
    older = np.zeros(len(alive), dtype=bool)
    older[:-1] = pmid[alive[:-1]] == pmid[alive[1:]]
    sorted_outcome[alive[older]] = OLDER_VERSION

    sorted_outcome[deletion] = COUNTS
    outcome[order] = sorted_outcome
    return outcome
