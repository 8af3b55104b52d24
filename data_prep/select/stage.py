"""Stage ``select``: parsed rows → ``OUT/documents``, ``OUT/dropped``, ``OUT/ledger.json``, and what was found.

Every record that came in ends in one place, as a document or as a dropped one with its reason (``reasons.py``). The
steps: identifiers decide first (``keys.py``, ``fold.py``); what a record tells of its article is gathered
(``exclusions.py``, ``known_articles.py``); then every file is judged by itself, record by record (``judge.py``); then
the rules that look at all documents (``decide.py``); then the files are written.

Records of refused files are not counted, for their number cannot be known; the ledger lists these files under
``refused_files``, under ``unusable_records`` how many records of the other files could not be read and where the first
of them lie, under ``deletions`` how many citations each file ordered to delete, and under ``warnings`` what is doubtful
about the set of files, such as a gap in the numbers of PubMed's.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from base import storage
from base.errors import UserError
from base.progress import progress, say
from base.storage import write_bytes
from data_prep.documents import DOCUMENTS, DROPPED, LEDGER
from data_prep.identifiers import read_names
from data_prep.parse.stage import FOLDER as PARSED
from data_prep.parse.stage import parsed_path
from data_prep.schema import Select
from data_prep.select.contamination import CONTEXT, PMID, QUESTION, Benchmarks, Hits, without_phrases
from data_prep.select.decide import ABSTRACT, FULL_TEXT, Candidates, decide
from data_prep.select.exclusions import names_of_articles
from data_prep.select.judge import JudgeTask, bands_path, judge_file, noted, results_path, signatures_path
from data_prep.select.keys import ParsedFile, first_fates
from data_prep.select.known_articles import gather
from data_prep.select.reasons import CODES, KEPT
from data_prep.select.write import WriteTask, Written, make_ledger, write_file
from data_prep.stage import Job, Stage, digest, discard, remove, versions

VERSION = 7  # raise it when a rule changes, or what is told of the corpus
NOTES = 2  # raise it when what judging leaves for the steps behind it changes, so that no half-done folder is read
DUPLICATES, CONTAMINATION = "duplicates.json", "contamination.json"
CONTAMINATED = (CODES["contaminated_ngram"], CODES["contaminated_pmid"])
BENCHMARKS, KNOWN = "benchmarks.npz", "known_articles.parquet"  # in the folder of what was judged
UNKNOWN_SHOWN = 10


def run(job: Job) -> dict[str, Any]:
    """Decide about every record, then write."""
    parsed = job.marker("parse")["summary"]
    settings = job.configuration.select
    files = _parsed_files(job.work / PARSED, parsed["files"])
    folder = job.work / f"judged-{digest([VERSION, NOTES, job.marker('parse')['key'], depends_on(job)])}"
    _remove_others(folder)
    folder.mkdir(exist_ok=True)

    unknown = _judge(job, files, folder)
    outcomes, duplicates, found = compare(settings, files, folder)
    ledger, boilerplate = _write(job, files, folder, outcomes, parsed)

    _write_json(job.local / DUPLICATES, duplicates | {"boilerplate": dict(sorted(boilerplate.items()))})
    remove(job.local / CONTAMINATION)
    if found is not None:
        _write_json(job.local / CONTAMINATION, found)
    _write_json(job.local / LEDGER, ledger)
    discard(folder)
    total = ledger["total"]
    drops = ", ".join(f"{number} {reason}" for reason, number in total["dropped"].items())
    say(f"select: {total['kept']} documents from {total['in']} records" + (f"; dropped {drops}" if drops else ""))
    if unknown:
        shown = ", ".join(unknown[:UNKNOWN_SHOWN]) + ", …" * (len(unknown) > UNKNOWN_SHOWN)
        say(f"select: {len(unknown)} of the ids in select.exclude name no record: {shown}")
    return total


def _parsed_files(folder: Path, names: dict[str, list[str]]) -> list[ParsedFile]:
    of_all = [(source, name) for source in ("pubmed", "pmc") for name in names.get(source, [])]
    return [
        ParsedFile(source, name, parsed_path(folder, source, name), f"{index:05d}-{_stem(name)}")
        for index, (source, name) in enumerate(of_all)
    ]


def _stem(name: str) -> str:
    last = name.rstrip("/").rpartition("/")[2]
    for suffix in (".gz", ".tgz", ".tar", ".xml", ".nxml"):
        last = last.removesuffix(suffix)
    return re.sub(r"[^\w.-]", "_", last)


def _judge(job: Job, files: Sequence[ParsedFile], folder: Path) -> list[str]:
    """Every record by itself; what an earlier run has done is not done again. Returns the ids of ``select.exclude``
    that name no record."""
    settings = job.configuration.select
    fates = first_fates(files)
    excluded: list[str] = []
    unknown: list[str] = []
    if settings.exclude is not None:
        excluded, unknown = names_of_articles(read_names(settings.exclude), files, fates)
    benchmarks, contexts = None, np.empty(0, dtype=np.int64)
    if settings.decontaminate.questions is not None:
        benchmarks = folder / BENCHMARKS
        if not benchmarks.exists():
            Benchmarks.load(Path(settings.decontaminate.questions), settings.decontaminate.ngram).save(benchmarks)
        contexts = np.unique(Benchmarks.open(benchmarks).pmid)
    gather(files, fates, excluded, contexts, folder / KNOWN)
    waiting = [
        JudgeTask(file, fate.tobytes(), folder, settings, folder / KNOWN, benchmarks)
        for file, fate in zip(files, fates, strict=True)
        if not results_path(folder, file.part).exists()
    ]
    with progress("select, judge", sum(len(task.fates) for task in waiting), "records") as advance:
        for index, _ in job.executor.map(judge_file, waiting):
            advance(len(waiting[index].fates))
    return unknown


def compare(
    settings: Select, files: Sequence[ParsedFile], folder: Path
) -> tuple[list[NDArray[np.uint8]], dict[str, Any], dict[str, Any] | None]:
    """For each file the fates of its candidates; what was found of duplicates, and of benchmarks (None: not asked)."""

    def column(name: str) -> NDArray[Any]:
        return np.concatenate([noted(folder, file.part, name) for file in files])

    lengths = [len(noted(folder, file.part, "rows")) for file in files]
    sources = np.array([FULL_TEXT if file.source == "pmc" else ABSTRACT for file in files], dtype=np.uint8)
    candidates = Candidates(
        source=np.repeat(sources, lengths),
        pmid=column("pmid"),
        pmcid=column("pmcid"),
        doi=column("doi"),
        digest=np.concatenate([_digests(folder, file.part) for file in files]),
    )
    say(f"select: comparing {len(candidates.source)} documents with each other")
    fates = np.full(len(candidates.source), KEPT, dtype=np.uint8)
    found = None
    if (folder / BENCHMARKS).exists():
        benchmarks = Benchmarks.open(folder / BENCHMARKS)
        hits, phrases = without_phrases(_all_hits(files, folder, lengths))
        _drop_contaminated(benchmarks, hits, settings, fates)
    near = files if settings.near_duplicates is not None else []
    report = decide(
        candidates, settings, fates, [bands_path(folder, file.part) for file in near],
        [signatures_path(folder, file.part) for file in near],
    )  # fmt: skip
    if (folder / BENCHMARKS).exists():
        hits = hits[np.isin(fates[hits["document"]], (KEPT, *CONTAMINATED))]
        found = benchmarks.report(hits, np.flatnonzero(np.isin(fates, CONTAMINATED))) | {"phrases": phrases}
    return np.split(fates, np.cumsum(lengths)[:-1]), report.json(), found


def _digests(folder: Path, part: str) -> NDArray[np.uint64]:
    """The sha256 of each candidate's text, cut to 16 bytes: uint64[candidates, 2]."""
    return np.ascontiguousarray(noted(folder, part, "sha256")[:, :16]).view(np.uint64)


def _all_hits(files: Sequence[ParsedFile], folder: Path, lengths: Sequence[int]) -> Hits:
    """Of all files, ``document`` being the candidate's place among all."""
    hits, first = [], 0
    for file, length in zip(files, lengths, strict=True):
        of_file = noted(folder, file.part, "hits")
        of_file["document"] += first
        hits.append(of_file)
        first += length
    return np.concatenate(hits)


def _drop_contaminated(benchmarks: Benchmarks, hits: Hits, settings: Select, fates: NDArray[np.uint8]) -> None:
    for way, names, reason in (
        (QUESTION, settings.decontaminate.drop_by_ngram, "contaminated_ngram"),
        (CONTEXT, settings.decontaminate.drop_by_ngram, "contaminated_ngram"),
        (PMID, settings.decontaminate.drop_by_pmid, "contaminated_pmid"),
    ):
        fates[benchmarks.hit_by(hits, way, names)] = CODES[reason]


def _write(
    job: Job, files: Sequence[ParsedFile], folder: Path, outcomes: Sequence[NDArray[np.uint8]],
    parsed: dict[str, Any],
) -> tuple[dict[str, Any], Counter[str]]:  # fmt: skip
    """Documents and dropped records; returns the ledger, and how often which boilerplate was taken."""
    written: list[Written | None] = [None] * len(files)
    with job.building(DOCUMENTS) as documents, job.building(DROPPED) as dropped:
        tasks = [
            WriteTask(file, folder, outcome.tobytes(), documents, dropped)
            for file, outcome in zip(files, outcomes, strict=True)
        ]
        with progress("select, write", len(tasks), "files") as advance:
            for index, result in job.executor.map(write_file, tasks):
                written[index] = result
                advance(1)
        all_written = [one for one in written if one is not None]
        ledger = make_ledger(files, [one.fates for one in all_written], parsed)
        if not ledger["total"]["kept"]:
            raise UserError(f"no document is left: {ledger['total']['in']} records, {ledger['total']['dropped']}")
    boilerplate: Counter[str] = Counter()
    for one in all_written:
        boilerplate.update(one.boilerplate)
    return ledger, boilerplate


def _write_json(path: Path, value: Any) -> None:
    write_bytes(str(path), (json.dumps(value, indent=1) + "\n").encode())


def _remove_others(folder: Path) -> None:
    """What runs with other settings left unfinished."""
    for other in folder.parent.glob("judged-*"):
        if other != folder:
            discard(other)


def depends_on(job: Job) -> Any:
    """The settings, the files that they name as they are now, and what makes the signatures of near duplicates."""
    settings = job.configuration.select
    named = []
    if settings.exclude is not None:
        named.append(digest(sorted(read_names(settings.exclude))))
    if settings.decontaminate.questions is not None:
        named.append(_identity(Path(settings.decontaminate.questions)))
    return [VERSION, versions("rensa"), settings.model_dump(), named]


def _identity(folder: Path) -> str:
    """Changes with any file below the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        raise UserError(f"select.decontaminate.questions={folder}: no such folder, or nothing in it")
    lines = [f"{path.relative_to(folder)} {storage.sha256(path)}" for path in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


STAGE = Stage(
    "select", needs=("parse",), depends_on=depends_on, run=run,
    outputs=(DOCUMENTS, DROPPED, LEDGER, DUPLICATES, CONTAMINATION),
)  # fmt: skip
