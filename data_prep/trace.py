"""``python -m data_prep.trace OUT pmid:123 …``: what became of a document, and where its tokens are."""

import argparse
import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from base import storage
from base.errors import FAILED, UserError, run_command

EPILOG = """For each id: the document (file, licence, version, sha256 of its text) and each place of its tokens in the
shards; or why and from which file it was dropped; or that it is unknown.
Exit codes: 0 all ids are known; 1 some are unknown; 2 for you to mend.

To honour a takedown or a retraction: add the id to the file that select.exclude names and run the same data_prep
command again. It does everything from select on anew, sends it, and verifies it; this command must then say that the id
was dropped. Copies of the old shards elsewhere, and models trained on them, are for you to find: note the hash of
the old OUT/mds/train/index.json with what you train."""
PLACE = ("sequence", "offset", "tokens", "begin")


@dataclass
class Trace:
    """All that is known of one id."""

    documents: list[dict[str, Any]] = field(default_factory=list)
    dropped: list[dict[str, Any]] = field(default_factory=list)
    pieces: list[dict[str, Any]] = field(default_factory=list)

    @property
    def known(self) -> bool:
        return bool(self.documents or self.dropped or self.pieces)


def trace(out: str, names: Sequence[str]) -> dict[str, Trace]:
    """Look the ids up in documents, dropped records and shards below ``out`` (local or ``s3://``).

    Raises:
        UserError: an id has not the form of one; ``out`` has no documents.
    """
    for name in names:
        if ":" not in name:
            raise UserError(f"{name!r} is no id of a document: give pmid:123, pmcid:PMC123 or doi:10.…")
    found = {name: Trace() for name in names}
    for row in _rows(out, "documents", names, ["version", "license", "source_file", "sha256"]):
        found[row["id"]].documents.append(row)
    if not any(each.documents for each in found.values()) and not storage.list_files(storage.join(out, "documents")):
        raise UserError(f"{out} has no documents: is it the out of a data_prep run?")
    for row in _rows(out, "dropped", names, ["reason", "source_file"]):
        found[row["id"]].dropped.append(row)
    for split in ("train", "val"):
        place = storage.join(out, "mds", split)
        if not storage.exists(storage.join(place, "doc_ids.parquet")):
            continue  # not made yet
        entries = json.loads(storage.read_bytes(storage.join(place, "index.json")))["shards"]
        ends = list(accumulate(entry["samples"] for entry in entries))
        for row in _rows(out, f"mds/{split}/doc_ids.parquet", names, list(PLACE)):
            number = next((number for number, end in enumerate(ends) if row["sequence"] < end), None)
            entry = None if number is None else entries[number]
            begin = ends[number] - entry["samples"] if number is not None and entry else 0
            found[row["id"]].pieces.append(
                row | {"split": split, "shard": number, "entry": entry, "shard_begin": begin}
            )
    for each in found.values():
        each.pieces.sort(key=lambda piece: piece["begin"])
    return found


def _rows(out: str, name: str, names: Iterable[str], columns: list[str]) -> list[dict[str, Any]]:
    """The rows of a folder of Parquet, or of one file, that carry one of the ids, with the ``file`` that each is in.

    The ids are read first and alone: they are a small part of a file, also when it lies in a bucket.
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
    wanted = ds.field("id").isin(list(names))
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
            f"  document  {row['file']}, from {row['source_file']}, version {row['version']}, licence {license}",
            f"            sha256 {row['sha256']}",
        ]
    lines += [f"  dropped   {row['reason']}, from {row['source_file']} ({row['file']})" for row in found.dropped]
    for piece in found.pieces:
        where = "behind the last sequence, in the dropped tail"
        if piece["entry"]:
            form = piece["entry"]["zip_data"] or piece["entry"]["raw_data"]
            where = f"{form['basename']}, its sequence {piece['sequence'] - piece['shard_begin']}"
        lines.append(
            f"  tokens    mds/{piece['split']} sequence {piece['sequence']}, offset {piece['offset']}: "
            f"{piece['tokens']} tokens from the document's token {piece['begin']} on ({where})"
        )
    return "\n".join(lines)


def main() -> None:
    """Parse the command line, look up, print."""
    parser = argparse.ArgumentParser(
        prog="python -m data_prep.trace", description=__doc__, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("out", help="the out of a data_prep run: a folder or s3://bucket/folder")
    parser.add_argument("ids", nargs="*", metavar="id", help="pmid:123, pmcid:PMC123, doi:10.…")
    parser.add_argument("--file", type=Path, help="further ids, one a line")
    parser.add_argument("--text", action="store_true", help="print the text as well, decoded from the shards")
    arguments = parser.parse_args()
    names = list(arguments.ids)
    if arguments.file:
        try:
            names += [line.strip() for line in arguments.file.read_text(encoding="utf-8").splitlines() if line.strip()]
        except OSError as error:
            raise UserError(f"{arguments.file}: cannot be read: {error.strerror}") from None
    if not names:
        parser.error("give at least one id, or --file")
    found = trace(arguments.out, list(dict.fromkeys(names)))
    for name, each in found.items():
        print(describe(name, each))
        if arguments.text and each.pieces:
            print("\n" + text_of(arguments.out, each.pieces) + "\n")
    unknown = [name for name, each in found.items() if not each.known]
    if unknown:
        raise SystemExit(FAILED)


if __name__ == "__main__":
    run_command(main)
