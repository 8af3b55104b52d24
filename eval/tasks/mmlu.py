"""MMLU (Hendrycks et al. 2021, arXiv 2009.03300): the medical subjects, and some that have nothing to do with medicine,
which show what training on one field costs elsewhere. Each subject is a task of its own."""

import csv
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from base.errors import UserError
from eval.hub_formats import mmlu_csv
from eval.task import ACC, ACC_NORM, BadRow, Download, Form, Item, Release, Row, Source, Task, text_of

COLUMNS = ("question", "A", "B", "C", "D", "answer")


def read_rows(paths: Sequence[Path]) -> Iterator[tuple[str, Row | BadRow]]:
    """Rows without a header: question, four options, letter. A row's id is the file's name and its number from 1.

    Raises:
        UserError: the file is not in UTF-8, is no CSV, or has a header, as copies that pandas has written have.
    """
    path = paths[0]
    try:
        # utf-8-sig: no mark at the beginning becomes a part of the first question. newline: it stays inside quotes.
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not CSV in UTF-8: {error}") from None
    if rows and rows[0][-1].strip().lower() in ("answer", "target", "label"):
        raise UserError(f"{path}: begins with a header ({', '.join(rows[0])}), which no official file has")
    for number, cells in enumerate(rows, start=1):
        if len(cells) != len(COLUMNS):
            yield f"row {number}", BadRow(f"has {len(cells)} columns; a question, four options and a letter are six")
        else:
            yield f"row {number}", {"id": f"{path.stem}:{number}", **dict(zip(COLUMNS, cells, strict=True))}


def read_row(subject: str, row: Row) -> Item:
    """One row; the question without spaces around it, as in lm-eval, the options as they are."""
    question = text_of(row, "question").strip()
    options = tuple(text_of(row, letter) for letter in "ABCD")
    gold = row["answer"]
    if gold not in tuple("ABCD"):
        raise BadRow(f"the answer is {gold!r}, not one of A, B, C, D")
    return Item(row["id"], question, options, "ABCD".index(gold), subject)


def _source(subject: str, split: str, releases: tuple[Release, ...] = ()) -> Source:
    file = f"mmlu/data/{split}/{subject}_{split}"
    return Source(
        (f"{file}*.csv",),
        read_rows,
        partial(read_row, subject),
        releases=releases,
        downloads=(Download("hub", "cais/mmlu", f"{subject}/{split}-00000-of-00001.parquet", f"{file}.csv", mmlu_csv),),
        in_order=True,
    )


def _task(subject: str, *releases: Release) -> Task:
    about = subject.replace("_", " ")
    return Task(
        name=f"mmlu_{subject}",
        version=1,
        scored=_source(subject, "test", releases),
        shots=_source(subject, "dev"),
        origin=(
            f"The files are data/test/{subject}_test.csv and data/dev/{subject}_dev.csv in the archive that "
            "https://github.com/hendrycks/test links to; unpack it into DATA/mmlu"
        ),
        forms={
            "cloze": Form(
                "Question: {question}\nAnswer:",
                "texts",
                ACC_NORM,
                description=f"The following are questions (with answers) about {about}.\n\n",
            ),
            "letter": Form(
                "{question}\n{options}\nAnswer:",
                "letters",
                ACC,
                description=f"The following are multiple choice questions (with answers) about {about}.\n\n",
            ),
        },
        primary=("cloze", 0),
        notes=(
            "Zero-shot, by the likelihood of the option's text, as lm-eval's mmlu_continuation. Published scores are "
            "5-shot with letters, which is mmlu_…_letter_5shot here; below some billions of parameters that measures "
            "a liking for one letter."
        ),
    )


def _final(rows: int, *sha256: str) -> Release:
    return Release("test of the final release (data.tar)", rows, sha256)


def _in_git(rows: int, *sha256: str) -> Release:
    return Release("test of the last version in git, before data.tar", rows, sha256)


# Rows are those of the final release; the SHA-256 is given of the files that were seen.
MEDICAL = (
    _task("anatomy", _final(135, "966dfd5c4579885ebdb8c05d6754ae5834f672632586d8595be3c0f9360e6f4e")),
    _task("clinical_knowledge", _final(265, "06a1ea973000d5ef5d2664c4ac1c68d0423f1cab6b3b682be7942633740811f1")),
    _task("college_biology", _final(144, "e1204cb9d19887ea266145f038b5d4cc1fbc33d7efce186259c4ecca1cbe3119")),
    _task("college_medicine", _final(173)),
    _task("medical_genetics", _final(100, "cc30c698e94f12c00e610a39c62d1a1d9587fa53c005359317346081f722c5e6")),
    _task("professional_medicine", _final(272), _in_git(282)),
    _task("nutrition", _final(306), _in_git(306, "b5ef9739b7846733797f73f2cc67715d41160719e8846e0d529a61f2d6d659d0")),
    _task("virology", _final(166)),
    _task(
        "high_school_biology",
        _final(310),
        _in_git(310, "cfaba2b58b9714d2a6983a90bce17f14cc44cfc8195b20f8f65fef70d21331b9"),
    ),
)

OTHER = (
    _task("high_school_us_history", _final(204)),
    _task("philosophy", _final(311)),
    _task("high_school_macroeconomics", _final(390)),
    _task("elementary_mathematics", _final(378)),
    _task("world_religions", _final(171)),
    _task("computer_security", _final(100)),
)
