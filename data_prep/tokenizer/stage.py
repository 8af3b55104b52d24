"""Stage ``tokenizer``: ``OUT/tokenizer``, trained on the documents or brought along (``tokenizer.name``), with a report
(``report.json``, ``report.md``).

What was trained is kept in ``work/trained-KEY.json``, so that another report takes no other training; and the stages
that follow depend on ``tokenizer.json`` alone, so that another report makes no other shards.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from base.errors import UserError
from base.progress import progress, say
from base.storage import sha256, write_bytes
from data_prep.documents import DOCUMENTS, parts
from data_prep.schema import Tokenizer as Settings
from data_prep.stage import Job, Stage, digest, versions
from data_prep.tokenizer.corpus import SOURCES, Corpus
from data_prep.tokenizer.others import ByteLevel, load_other
from data_prep.tokenizer.ready import hashes, load_ready, read_files
from data_prep.tokenizer.report import OURS, measure_curve, measure_terms, measure_words, rates, single_words
from data_prep.tokenizer.report_tables import tables
from data_prep.tokenizer.terms import CountTask, Words, count_terms, read_terms
from data_prep.tokenizer.training import train, truncated, write_tokenizer

VERSION = 5  # raise it when the report tells something else
TRAINING = 1  # raise it when another text is trained on, or in another way
FOLDER = "tokenizer"


def run(job: Job) -> dict[str, Any]:
    """Train on what is not held out for validation, or take the ready one; measure on what is held out; write."""
    settings = job.configuration.tokenizer
    others = {name: load_other(name, place) for name, place in settings.compare_with.items()}
    if OURS in others:
        raise UserError(f"tokenizer.compare_with.{OURS}: is what the report calls this run's own; take another name")
    lists = read_terms(Path(settings.terms)) if settings.terms else []
    corpus = Corpus(parts(job.local / DOCUMENTS), settings, job.configuration.shards.val_fraction)
    if settings.name is None:
        largest, taken = _trained(job, corpus)
        tokenizer = truncated(largest, settings.vocab_size)
        report = _size(tokenizer, settings) | {"training": {"bytes": taken, "of_bytes": corpus.size}}
    else:
        ready = load_ready(settings.name)
        largest = tokenizer = ready.tokenizer
        report = {"vocab_size": tokenizer.get_vocab_size(), "said": "", "ready": ready.files}
    counts = _count(job, corpus) if settings.terms else Counter()
    texts, report["measured_on"] = _texts(corpus, settings)
    measured = {OURS: ByteLevel(tokenizer), **others}
    report["vocab_sizes"] = {name: each.vocab_size for name, each in measured.items()}
    report["rates"] = {name: rates(each, texts) for name, each in measured.items()}
    report |= report["rates"][OURS][next(iter(texts))]
    report |= measure_words(measured)
    report["terms"] = measure_terms(measured, lists, counts) if lists else {}
    report["curve"] = measure_curve(largest, settings.curve, texts, single_words(lists, counts))
    with job.building(FOLDER) as aside:
        write_tokenizer(tokenizer, aside, job.configuration.shards.max_seq_len)
        report["sha256"] = sha256(aside / "tokenizer.json")
        (aside / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        (aside / "report.md").write_text(tables(report), encoding="utf-8")
    say(f"tokenizer: {report['vocab_size']} entries, {report['tokens_per_word']:.3f} tokens per word")
    if report["said"]:
        say(f"tokenizer: {report['said']}")
    return report


def _trained(job: Job, corpus: Corpus) -> tuple[Tokenizer, int]:
    """The tokenizer of the largest size that is asked for, or a larger one, and the bytes of text that it has seen."""
    settings = job.configuration.tokenizer
    size = max(settings.vocab_size, *settings.curve, 0)  # sizes of the curve come out of one training at the largest
    kept = job.work / f"trained-{digest([job.marker('select')['key'], _decides_training(job)])}.json"
    for other in job.work.glob("trained-*.json"):
        if other != kept:
            other.unlink()
    trained = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else None
    if trained is not None and trained["size"] >= size:
        say("tokenizer: trained before, with these settings on these documents")
    else:
        with progress("tokenizer, read", corpus.documents, "documents") as advance:
            tokenizer = train(corpus.training_texts(advance), size, settings.min_frequency)
        if not corpus.taken:
            on = ", ".join(settings.train_on)
            raise UserError(f"no document to train the tokenizer on: tokenizer.train_on is {on}")
        trained = {"size": size, "bytes": corpus.taken, "tokenizer": tokenizer.to_str()}
        write_bytes(str(kept), json.dumps(trained).encode())
    return Tokenizer.from_str(trained["tokenizer"]), trained["bytes"]


def _count(job: Job, corpus: Corpus) -> Counter[Words]:
    counts: Counter[Words] = Counter()
    tasks = [CountTask(part, Path(job.configuration.tokenizer.terms or ""), corpus.choice) for part in corpus.parts]
    with progress("tokenizer, count terms", len(tasks), "files") as advance:
        for _, found in job.executor.map(count_terms, tasks):
            counts.update(found)
            advance(1)
    return counts


def _texts(corpus: Corpus, settings: Settings) -> tuple[dict[str, list[str]], str]:
    """Documents to measure on, by source, those sources first that were trained on; and which they are."""
    trained_on = settings.train_on if settings.name is None else []
    sources = [*corpus.choice.sources, *(source for source in SOURCES if source not in corpus.choice.sources)]
    texts, said = {}, []
    for source in sources:
        held_out = corpus.held_out(source)
        if documents := held_out or corpus.first(source):
            texts[source] = documents
            known = "held out" if held_out or source not in trained_on else "among those trained on"
            said.append(f"{len(documents)} documents of {source} {known}")
    return texts, ", ".join(said)


def _size(tokenizer: Tokenizer, settings: Settings) -> dict[str, Any]:
    size = tokenizer.get_vocab_size()
    said = (
        ""
        if size == settings.vocab_size
        else f"SMALLER than the {settings.vocab_size} entries asked for: the text holds no further pair of tokens that "
        f"occurs {settings.min_frequency} times or more (tokenizer.min_frequency)"
    )
    return {
        "vocab_size": size,
        "asked": settings.vocab_size,
        "min_frequency": settings.min_frequency,
        "said": said,
    }


def depends_on(job: Job) -> Any:
    """The settings and the files they name; the context length is in the tokenizer's files, and the validation split
    is not trained on."""
    settings = job.configuration.tokenizer
    places = [*settings.compare_with.values(), *([settings.terms] if settings.terms else [])]
    files = [[str(file), sha256(file)] for place in places for file in sorted(Path(place).glob("*")) if file.is_file()]
    ready = None if settings.name is None else hashes(read_files(settings.name))
    return [VERSION, _decides_training(job), settings.model_dump(), files, ready, job.configuration.shards.max_seq_len]


def _decides_training(job: Job) -> Any:
    """Everything besides the documents and the size: a smaller tokenizer is the beginning of a larger one."""
    settings = job.configuration.tokenizer.model_dump(exclude={"name", "vocab_size", "compare_with", "terms", "curve"})
    return [TRAINING, versions("tokenizers"), settings, job.configuration.shards.val_fraction]


STAGE = Stage(
    "tokenizer", needs=("select",), depends_on=depends_on, run=run, outputs=(FOLDER,),
    result=lambda summary: summary["sha256"],
)  # fmt: skip
