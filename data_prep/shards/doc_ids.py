"""The side file ``doc_ids.parquet`` of a split: where each document lies, in the order of the stream.

One row a piece; with packing ``eos`` and ``concat`` that is one a document.

==============  ==============================================================================
id              of the document
sequence        in which the piece starts; it may lie behind the last sequence, in the dropped tail
offset          of its first token in that sequence
tokens          of the piece, with the separator where it holds that; where they do not fit into
                the sequence they go on in those that follow
begin           first token of the piece among those of its document: 0 but for ``best_fit``
==============  ==============================================================================
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.shards.packing import Layout

DOC_IDS = "doc_ids.parquet"
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("sequence", pa.int64()),
        ("offset", pa.int32()),
        ("tokens", pa.int32()),
        ("begin", pa.int32()),
    ]
)
ROWS = 1 << 17  # of a row group: a reader who wants some sequences reads little else


def write_doc_ids(layout: Layout, identifiers: pa.LargeStringArray, path: Path) -> None:
    """Write the file; ``identifiers`` are those of all documents, by row."""
    with pq.ParquetWriter(path, SCHEMA, compression="zstd", use_dictionary=False) as writer:
        for first in range(0, len(layout.start), ROWS):
            rows = slice(first, first + ROWS)
            sequence, offset = np.divmod(layout.start[rows], layout.sequence_length)
            columns = [
                identifiers.take(pa.array(layout.document[rows])).cast(pa.string()),
                sequence,
                offset.astype(np.int32),
                layout.tokens[rows],
                layout.begin[rows],
            ]
            writer.write_batch(pa.record_batch(columns, schema=SCHEMA), row_group_size=ROWS)


def read_doc_ids(path: Path, first: int, last: int | None) -> Iterator[pa.Table]:
    """The rows of pieces that start in sequences ``first`` to ``last - 1`` (None: to the end), some at a time."""
    with pq.ParquetFile(path) as file:
        column = file.schema_arrow.get_field_index("sequence")
        for group in range(file.num_row_groups):
            bounds = file.metadata.row_group(group).column(column).statistics
            if bounds.max < first or (last is not None and bounds.min >= last):
                continue
            table = file.read_row_group(group)
            sequence = table["sequence"].to_numpy()
            inside = sequence >= first if last is None else (sequence >= first) & (sequence < last)
            rows = np.flatnonzero(inside)
            if len(rows):
                yield table.slice(rows[0], rows[-1] + 1 - rows[0])
