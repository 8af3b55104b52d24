"""Everything that the card tells, as numbers: ``OUT/card.json``.

Read are the files that the stages before left in ``OUT`` and nothing that depends on where they lie, on the number of
workers or on time, so the same corpus has the same card. Contamination is null when it was not searched for.
"""

import hashlib
import json
import platform
import unicodedata
from functools import reduce
from importlib import metadata
from operator import getitem
from pathlib import Path
from typing import Any

import yaml

from base import storage
from base.configuration import dump_configuration
from base.errors import UserError
from data_prep.card.counts import Counts, count_documents, index_tokens
from data_prep.documents import LEDGER
from data_prep.schema import FETCHED, FETCHED_PMC, TRAINING, DataConfiguration
from data_prep.select.reasons import REASONS
from data_prep.select.stage import CONTAMINATION, DUPLICATES
from data_prep.shards.packing import SPLITS
from data_prep.shards.stage import CARD as MDS_CARD
from data_prep.shards.stage import FOLDER as MDS
from data_prep.stage import Job, remove
from data_prep.tokenizer.stage import FOLDER as TOKENIZER

# What decides neither documents nor tokens: where things lie, who does the work, what is looked at afterwards.
LEFT_OUT = ("out", "work", "executor", "verify")
PLACES = (
    "select.decontaminate.questions", "select.exclude", "tokenizer.name", "tokenizer.terms", "tokenizer.compare_with",
)  # fmt: skip
WORDS = (*FETCHED, *FETCHED_PMC)  # in place of a folder: these do decide
JOURNALS = 20
# Packages on which the bytes of documents, tokenizer or shards depend.
PACKAGES = (
    "gigatoken", "lxml", "mosaicml-streaming", "numpy", "py3langid", "pyarrow", "rensa", "tokenizers", "zstandard",
)  # fmt: skip


def gather(job: Job) -> dict[str, Any]:
    """All numbers of the card.

    Raises:
        UserError: a file of a stage before is not there.
    """
    ledger, report = _json(job, LEDGER, "select"), _json(job, f"{TOKENIZER}/report.json", "tokenizer")
    shards = _json(job, f"{MDS}/{MDS_CARD}", "shards")
    configuration = shown_configuration(job.configuration)
    settings = yaml.safe_load(configuration)
    folder = job.work / "card"
    remove(folder)
    folder.mkdir(parents=True)
    try:
        cut = index_tokens(job, folder, shards["max_seq_len"], int(shards["packing"] != "concat"))
        counts = count_documents(job, folder)
    finally:
        remove(folder)
    return {
        "inputs": _inputs(job, ledger),
        "configuration": settings,
        "configuration_sha256": hashlib.sha256(configuration.encode()).hexdigest(),
        "code_sha256": _code(),
        "versions": _versions(),
        "sha256": _hashes(job, counts),
        "sources": {
            source: {"documents": documents, "tokens": tokens, "bytes": size}
            for source, (documents, tokens, size) in counts.sources.items()
        },
        "ledger": {name: ledger[name] for name in ("total", "sources") if name in ledger},
        "reasons": {reason: REASONS.get(reason, "") for reason in ledger["total"]["dropped"]},
        "licenses": counts.rows("license"),
        "years": sorted(counts.rows("year"), key=lambda row: (row["name"] is None, row["name"], row["source"])),
        "lengths": sorted(
            ({"at_least": 2 ** row.pop("name"), **row} for row in counts.rows("length")),
            key=lambda row: (row["at_least"], row["source"]),
        ),
        "languages": counts.rows("language"),
        "types": counts.rows("types"),
        "journals": _journals(counts),
        "duplicates": _json(job, DUPLICATES, "select"),
        "contamination": _json(job, CONTAMINATION, "select") if (job.local / CONTAMINATION).is_file() else None,
        "tokenizer": report,
        "tokenised": job.marker("shards")["summary"]["tokenised"],
        "packing": shards | {"cut": cut},
    }


def shown_configuration(configuration: DataConfiguration) -> str:
    """The settings that decide what is in the corpus, as YAML. Input that is a place, not a word, is left out, and so
    are the places of other files: they mean something on one machine only, and whose they are is not for the card."""
    places = [name for name in ("pubmed", "pmc") if getattr(configuration, name) not in (None, *WORDS)]
    settings = yaml.safe_load(dump_configuration(configuration, without=(*LEFT_OUT, *places)))
    for key in PLACES:
        *path, name = key.split(".")
        section = reduce(getitem, path, settings)
        section[name] = {} if isinstance(section[name], dict) else None
    if configuration.tokenizer.name is not None:
        settings["tokenizer"] = {key: value for key, value in settings["tokenizer"].items() if key not in TRAINING}
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def _named(configuration: DataConfiguration) -> list[str]:
    """Which of PLACES are given."""
    return [key for key in PLACES if reduce(getattr, key.split("."), configuration)]


def _inputs(job: Job, ledger: dict[str, Any]) -> dict[str, Any]:
    """The population: how many files and records, and what names them beyond doubt, as far as the stages noted it."""
    parsed, fetched = (job.marker(stage).get("summary", {}) for stage in ("parse", "download"))
    md5 = parsed.get("md5")  # of each input file by name; its size and time say nothing to others
    given = {name: getattr(job.configuration, name) for name in ("pubmed", "pmc")}
    return {
        "named": _named(job.configuration),
        "given": {name: place if place in WORDS else "files" for name, place in given.items() if place is not None},
        "files": len(ledger["files"]),
        "refused_files": ledger.get("refused_files", []),
        "warnings": ledger.get("warnings", []),
        "records": ledger["total"]["in"],
        "deletions": sum(ledger.get("deletions", {}).values()),
        "frozen": {
            f"{kind} {name.removesuffix('_sha256')}": value
            for kind, summary in fetched.items()
            if isinstance(summary, dict)
            for name, value in summary.items()
            if name.endswith("_sha256")
        },
        "md5_sha256": hashlib.sha256(json.dumps(md5, sort_keys=True).encode()).hexdigest() if md5 else None,
    }


def _journals(counts: Counts) -> dict[str, Any]:
    """NLM and publishers write some in two ways (PLoS ONE, PLOS ONE): told is the one with most tokens."""
    total: dict[str, dict[str, Any]] = {}
    for row in counts.rows("journal"):  # most tokens first
        if row["name"] is not None:
            one = total.setdefault(row["name"].casefold(), {"name": row["name"], "documents": 0, "tokens": 0})
            one["documents"] += row["documents"]
            one["tokens"] += row["tokens"]
    order = sorted(total.values(), key=lambda one: (-one["tokens"], -one["documents"], one["name"]))
    return {"number": len(total), "first": order[:JOURNALS]}


def _hashes(job: Job, counts: Counts) -> dict[str, str]:
    """What tells this corpus from every other one."""
    files = (LEDGER, f"{TOKENIZER}/tokenizer.json", *(f"{MDS}/{split}/index.json" for split in SPLITS))
    return {"documents": counts.sha256} | {name: storage.sha256(_there(job, name, "shards")) for name in files}


def _code() -> str:
    """Over the sources of ``base`` and ``data_prep``: names and content."""
    root = Path(__file__).parents[2]
    whole = hashlib.sha256()
    for path in sorted(path for folder in ("base", "data_prep") for path in (root / folder).rglob("*.py")):
        whole.update(f"{path.relative_to(root)} {storage.sha256(path)}\n".encode())
    return whole.hexdigest()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "unicode": unicodedata.unidata_version}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # an optional one that was not used
    return found


def _json(job: Job, name: str, stage: str) -> Any:
    path = _there(job, name, stage)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not JSON: {error}; delete it and run the stage {stage} again") from None


def _there(job: Job, name: str, stage: str) -> Path:
    path = job.local / name
    if not path.is_file():
        raise UserError(f"{path}: no such file; the card is made from it: run the stage {stage}")
    return path
