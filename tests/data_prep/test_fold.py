"""Which revision of a citation counts, against NLM's rules applied one file after the other."""

from random import Random

import numpy as np

from data_prep.select.fold import COUNTS, DELETED, OLDER_VERSION, REPLACED, fold


def outcome(*rows: tuple[int, int, int, bool]) -> list[int]:
    pmid, version, file, deletion = zip(*rows, strict=True)
    return fold(
        np.array(pmid), np.array(version, dtype=np.int32), np.array(file, dtype=np.int32), np.array(deletion)
    ).tolist()  # fmt: skip


def test_a_later_file_replaces_and_a_higher_version_counts() -> None:
    assert outcome((1, 1, 0, False), (1, 1, 1, False)) == [REPLACED, COUNTS]
    assert outcome((1, 2, 0, False), (1, 1, 1, False)) == [COUNTS, OLDER_VERSION]


def test_a_deletion_reaches_its_own_and_earlier_files_and_a_later_record_comes_back() -> None:
    assert outcome((1, 1, 0, False), (1, 1, 1, True))[0] == DELETED
    assert outcome((1, 1, 0, True), (1, 1, 0, False))[1] == DELETED
    assert outcome((1, 1, 0, False), (1, 1, 1, True), (1, 1, 2, False)) == [DELETED, COUNTS, COUNTS]
    assert outcome((1, 1, 0, False), (1, 2, 0, False), (1, 2, 1, True))[0] == COUNTS


def test_the_fold_equals_loading_the_files_one_after_the_other() -> None:
    random = Random(5)
    for _ in range(300):
        rows = sorted(
            (
                (random.randint(1, 4), random.randint(1, 2), random.randint(0, 4), random.random() < 0.2)
                for _ in range(15)
            ),
            key=lambda row: row[2],
        )
        database: dict[tuple[int, int], int] = {}
        for file in range(5):
            mine = [(index, row) for index, row in enumerate(rows) if row[2] == file]
            for index, row in mine:
                if not row[3]:
                    database[row[:2]] = index
            for _, row in mine:
                if row[3]:
                    database.pop(row[:2], None)
        wanted = {
            index for (pmid, version), index in database.items() if (pmid, 3 - version) not in database or version == 2
        }
        found = {index for index, fate in enumerate(outcome(*rows)) if fate == COUNTS and not rows[index][3]}
        assert found == wanted, rows
