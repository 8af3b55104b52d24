"""``python -m data_prep.trace OUT pmid:123 …``: what became of a document, and where its tokens are."""

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from base import storage
from base.errors import FAILED, UserError, run_command
from data_prep.identifiers import TYPES, Names, names_of, normal_form, read_names

EPILOG = """For each id, all that is known of the article: its documents, the abstract or the full text, by whichever of
its names they go (file, licence, version, sha256 of the text), and each place of their tokens in the shards; or why and
from which file its records were dropped; or that it is unknown.
Exit codes: 0 all ids are known; 1 some are unknown; 2 for you to mend.

To honour a takedown or a retraction: add the id to the file that select.exclude names and run the same data_prep
command again. It does everything from select on anew, sends it, and verifies it; this command must then say that all
records of the article were dropped. Look at what else has its text: of two articles with nearly the same text one was
dropped as its duplicate, and now takes its place unless its id is in the file as well (OUT/dropped has those ids).
Copies of the old shards elsewhere, and models trained on them, are for you to find: note the hash of the old
OUT/mds/train/index.json with what you train."""
TOLD = {"documents": ["version", "license", "source_file", "sha256"], "dropped": ["reason", "source_file"]}
PLACE = ["sequence", "offset", "tokens", "begin"]
Row = dict[str, Any]


@dataclass
class Trace:
    """All that is known of one id."""

    documents: list[Row] = field(default_factory=list)
    dropped: list[Row] = field(default_factory=list)
    pieces: list[Row] = field(default_factory=list)

    @property
    def known(self) -> bool:
        return bool(self.documents or self.dropped or self.pieces)


def trace(out: str, names: Sequence[str]) -> dict[str, Trace]:
    """Look articles up in documents, dropped records and shards below ``out`` (local or ``s3://``).

    What belongs to a name is what ``select.exclude`` would leave out for it: rows that carry it, and rows that have a
    name in common with those.

    Returns:
        By the names in their normal form (:func:`data_prep.identifiers.normal_form`), each once.

    Raises:
        UserError: a name has not the form of one; ``out`` has no documents.
    """
    try:
        wanted = list(dict.fromkeys(map(normal_form, names)))
    except ValueError as error:
        raise UserError(str(error)) from None
    if not storage.list_files(storage.join(out, "documents")):
        raise UserError(f"{out} has no documents: is it the out of a data_prep run?")
    rows = _records(out, set(wanted))
    more = set(wanted).union(*(names_of(row) for row in rows))
    if more > set(wanted):
        rows = _records(out, more)
    carriers: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        for name in names_of(row):
            carriers.setdefault(name, []).append(number)
    pieces: dict[str, list[Row]] = {}
    for piece in _pieces(out, [*wanted, *(row["id"] for row in rows if "reason" not in row)]):
        pieces.setdefault(piece["id"], []).append(piece)

    found = {name: Trace() for name in wanted}
    for name, each in found.items():
        of_article = {name}.union(*(names_of(rows[number]) for number in carriers.get(name, [])))
        for number in sorted({number for one in of_article for number in carriers.get(one, [])}):
            (each.dropped if "reason" in rows[number] else each.documents).append(rows[number])
        for identifier in dict.fromkeys([name, *(row["id"] for row in each.documents)]):
            each.pieces += pieces.get(identifier, [])
    return found


def _records(out: str, names: set[str]) -> list[Row]:
    """The documents and the dropped records that carry one of the names."""
    wanted, found = Names.of(names), []
    for folder, told in TOLD.items():
        carry = pc.is_in(pc.field("id"), value_set=pa.array(sorted(names)))
        for kind in TYPES:
            carry |= wanted.in_column(kind, pc.field(kind))
        found += _rows(out, folder, carry, [*TYPES, *told])
    return found


def _pieces(out: str, identifiers: Sequence[str]) -> list[Row]:
    """Where the tokens of documents lie: by document, in the order of its tokens."""
    found = []
    for split in ("train", "val"):
        place = storage.join(out, "mds", split)
        if not storage.exists(storage.join(place, "doc_ids.parquet")):
            continue  # not made yet
        entries = json.loads(storage.read_bytes(storage.join(place, "index.json")))["shards"]
        ends = list(accumulate(entry["samples"] for entry in entries))
        of_these = pc.is_in(pc.field("id"), value_set=pa.array(identifiers, pa.string()))
        for row in _rows(out, f"mds/{split}/doc_ids.parquet", of_these, PLACE):
            number = next((number for number, end in enumerate(ends) if row["sequence"] < end), None)
            entry = None if number is None else entries[number]
            begin = ends[number] - entry["samples"] if number is not None and entry else 0
            found.append(row | {"split": split, "shard": number, "entry": entry, "shard_begin": begin})
    return sorted(found, key=lambda piece: (piece["id"], piece["begin"]))


def _rows(out: str, name: str, wanted: pc.Expression, columns: list[str]) -> list[Row]:
    """The wanted rows of a folder of Parquet, or of one file, with their ``id`` and the ``file`` that each is in.

    What names the rows is read first and alone: it is a small part of a file, also when that lies in a bucket.
    """
    import pyarrow.dataset as ds
    from pyarrow import fs

    location = storage.join(out, name)
    files = [f"{name}/{file}" for file in storage.list_files(location) if file.endswith(".parquet")]
    if name.endswith(".parquet") and storage.exists(location):
        files = [name]
    parquet = {storage.join(out, file).removeprefix("s3://"): file for file in files}
    if not parquet:
        return []
    remote = storage.is_remote(out)
    filesystem = fs.S3FileSystem(endpoint_override=os.environ.get("S3_ENDPOINT_URL")) if remote else None
    table = ds.dataset(list(parquet), filesystem=filesystem, format="parquet").to_table(["__filename"], filter=wanted)
    found = []
    for file in sorted(set(table["__filename"].to_pylist())):
        rows = ds.dataset(file, filesystem=filesystem, format="parquet").to_table(["id", *columns], filter=wanted)
        found += [row | {"file": parquet[file]} for row in rows.to_pylist()]
    return found


def text_of(out: str, pieces: list[dict[str, Any]]) -> str:
    """The text of a document, decoded from the shards; what lies in the dropped tail is not there."""
    from data_prep.shards.reading import read_shard
    from data_prep.tokenizer.training import END_OF_TEXT, load_tokenizer

    card = json.loads(storage.read_bytes(storage.join(out, "mds", "card.json")))
    ids: list[int] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        storage.download(storage.join(out, "tokenizer", "tokenizer.json"), folder / "tokenizer.json")
        tokenizer = load_tokenizer(folder)
        for piece in pieces:
            index = json.loads(storage.read_bytes(storage.join(out, "mds", piece["split"], "index.json")))
            left, number = piece["tokens"], piece["shard"]
            at = (piece["sequence"] - piece["shard_begin"]) * card["max_seq_len"] + piece["offset"]
            while left and number is not None and number < len(index["shards"]):
                entry = index["shards"][number]
                shard = storage.join(out, "mds", piece["split"], (entry["zip_data"] or entry["raw_data"])["basename"])
                stream = read_shard(shard, entry, card["max_seq_len"], folder).reshape(-1)
                taken = stream[at : at + left].tolist()
                ids += taken
                left, number, at = left - len(taken), number + 1, 0
    if ids and card["packing"] != "concat" and ids[-1] == tokenizer.token_to_id(END_OF_TEXT):
        ids.pop()
    return tokenizer.decode(ids, skip_special_tokens=False)


def describe(name: str, found: Trace) -> str:
    """What is known of one id, as lines of text."""
    lines = [name if found.known else f"{name}: unknown, neither a document nor a dropped record"]
    for row in found.documents:
        license = row["license"] or "not named"
        lines += [
            f"  document  {_other(name, row)}{row['file']}, from {row['source_file']}, version {row['version']}, "
            f"licence {license}",
            f"            sha256 {row['sha256']}",
        ]
    lines += [
        f"  dropped   {_other(name, row)}{row['reason']}, from {row['source_file']} ({row['file']})"
        for row in found.dropped
    ]
    for piece in found.pieces:
        where = "behind the last sequence, in the dropped tail"
        if piece["entry"]:
            form = piece["entry"]["zip_data"] or piece["entry"]["raw_data"]
            where = f"{form['basename']}, its sequence {piece['sequence'] - piece['shard_begin']}"
        lines.append(
            f"  tokens    {_other(name, piece)}mds/{piece['split']} sequence {piece['sequence']}, offset "
            f"{piece['offset']}: {piece['tokens']} tokens from the document's token {piece['begin']} on ({where})"
        )
    return "\n".join(lines)


def _other(name: str, row: Row) -> str:
    """The id of a row, where it is not the one that was asked for."""
    return "" if row["id"] == name else f"{row['id']}, "


def main() -> None:
    """Parse the command line, look up, print."""
    parser = argparse.ArgumentParser(
        prog="python -m data_prep.trace", description=__doc__, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("out", help="the out of a data_prep run: a folder or s3://bucket/folder")
    parser.add_argument("ids", nargs="*", metavar="id", help="pmid:123, pmcid:PMC123, doi:10.…")
    parser.add_argument("--file", help="further ids, one a line, in the form of the file that select.exclude names")
    parser.add_argument("--text", action="store_true", help="print the text as well, decoded from the shards")
    arguments = parser.parse_args()
    names = list(arguments.ids)
    if arguments.file:
        names += read_names(arguments.file)
    if not names:
        parser.error("give at least one id, or --file")
    found = trace(arguments.out, names)
    for name, each in found.items():
        print(describe(name, each))
        for _, pieces in groupby(each.pieces if arguments.text else [], lambda piece: piece["id"]):
            print("\n" + text_of(arguments.out, list(pieces)) + "\n")
    unknown = [name for name, each in found.items() if not each.known]
    if unknown:
        raise SystemExit(FAILED)


if __name__ == "__main__":
    run_command(main)
