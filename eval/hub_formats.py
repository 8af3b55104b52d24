"""The Hugging Face hub's parquet files, written back in the official formats."""

import csv
import io
import json
from collections.abc import Iterator

from base.errors import UserError
from eval.task import Row

MEDMCQA_FIELDS = (
    "question", "exp", "cop", "opa", "opb", "opc", "opd", "subject_name", "topic_name", "id", "choice_type",
)  # fmt: skip


def medmcqa_json_lines(parquet: bytes) -> bytes:
    """openlifescienceai/medmcqa → the official lines: there ``cop`` counts from 0, in the official file from 1.

    Raises UserError when it is no such file, or counts otherwise than from 0.
    """
    rows = list(_rows(parquet, MEDMCQA_FIELDS))
    golds = {row["cop"] for row in rows}
    if not golds <= {0, 1, 2, 3} or 0 not in golds:
        raise UserError(f"cop is one of {sorted(golds)} and not of 0, 1, 2, 3, so the hub's file has changed")
    lines = [json.dumps({**row, "cop": row["cop"] + 1}, separators=(",", ":")) for row in rows]
    # The official file has every slash behind a backslash: with that the bytes are the same.
    return "".join(line.replace("/", "\\/") + "\n" for line in lines).encode()


def mmlu_csv(parquet: bytes) -> bytes:
    """cais/mmlu → the official CSV: question, four options, letter. Raises UserError when it is no such file."""
    text = io.StringIO()
    # Some official files end their lines as Windows does: what is written here has their rows, not their bytes.
    writer = csv.writer(text, lineterminator="\n")
    for row in _rows(parquet, ("question", "choices", "answer")):
        if len(row["choices"]) != 4 or row["answer"] not in range(4):
            raise UserError(f"has a row with {len(row['choices'])} options and answer {row['answer']!r}")
        writer.writerow([row["question"], *row["choices"], "ABCD"[row["answer"]]])
    return text.getvalue().encode()


def _rows(parquet: bytes, fields: tuple[str, ...]) -> Iterator[Row]:
    import pyarrow as pa  # only for what is fetched: every run of an evaluation imports the tasks
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(pa.BufferReader(parquet)).read()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"not a parquet file: {error}") from None
    missing = [field for field in fields if field not in table.column_names]
    if missing:
        raise UserError(f"has no column {', '.join(missing)}: the hub's file has changed")
    yield from table.select(list(fields)).to_pylist()
