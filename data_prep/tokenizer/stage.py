"""Stage ``tokenizer``: ``OUT/tokenizer``, trained on the documents, with a report."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow.compute as pc
from tokenizers import Tokenizer

from base.progress import progress, say
from base.storage import sha256
from data_prep.documents import DOCUMENTS, document_hash, is_validation, parts, read_columns
from data_prep.schema import Tokenizer as Settings
from data_prep.stage import Job, Stage
from data_prep.tokenizer.others import load_other
from data_prep.tokenizer.training import train, write_tokenizer

VERSION = 1
FOLDER = "tokenizer"
REPORT_DOCUMENTS = 2000  # on so many documents, at most, the rates are measured


def run(job: Job) -> dict[str, Any]:
    """Train on what is not held out for validation, measure on what is, write."""
    settings = job.configuration.tokenizer
    others = {name: load_other(name, place) for name, place in settings.compare_with.items()}
    corpus = Corpus(job)
    with progress("tokenizer, read", corpus.documents, "documents") as advance:
        tokenizer = train(corpus.training_texts(advance), settings.vocab_size, settings.min_frequency)
    report = _report(tokenizer, settings) | {"training": {"bytes": corpus.taken, "of_bytes": corpus.size}}
    texts = corpus.held_out() or corpus.first()
    report["measured_on"] = f"{len(texts)} documents" + (" held out" if corpus.holds_out else " among those trained on")
    report |= _rates(tokenizer, texts)
    report["compared"] = {name: _rates(other, texts)["tokens_per_word"] for name, other in others.items()}
    with job.building(FOLDER) as aside:
        write_tokenizer(tokenizer, aside, job.configuration.shards.max_seq_len)
        report["sha256"] = sha256(aside / "tokenizer.json")
        (aside / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    say(f"tokenizer: {report['vocab_size']} entries, {report['tokens_per_word']:.3f} tokens per word")
    if report["said"]:
        say(f"tokenizer: {report['said']}")
    return report


class Corpus:
    """The documents, as the tokenizer sees them."""

    def __init__(self, job: Job):
        self._parts = parts(job.local / DOCUMENTS)
        self._settings = job.configuration.tokenizer
        self._val_fraction = job.configuration.shards.val_fraction
        self.documents = self.size = self.taken = 0
        for part in self._parts:
            for batch in read_columns(part, ["text"], rows=10_000):
                self.documents += len(batch)
                self.size += pc.sum(pc.binary_length(batch["text"])).as_py()
        self.holds_out = bool(self.held_out())

    def training_texts(self, advance: Callable[[int], None]) -> Iterator[list[str]]:
        """Documents that are not held out; where they are too many, a share chosen by the hash of their ids."""
        share = min(1.0, self._settings.max_training_bytes / self.size)
        limit, purpose = int(share * 2.0**64), f"tokenizer-{self._settings.seed}"
        for rows in self._rows():
            advance(len(rows))
            texts = [text for name, text in rows if not self._held(name) and document_hash(name, purpose) < limit]
            self.taken += sum(len(text.encode()) for text in texts)
            yield texts

    def held_out(self) -> list[str]:
        """Documents of the validation split, the first ones."""
        return self._first(self._held)

    def first(self) -> list[str]:
        """The first documents of all."""
        return self._first(lambda name: True)

    def _held(self, name: str) -> bool:
        return is_validation(name, self._val_fraction)

    def _first(self, wanted: Callable[[str], bool]) -> list[str]:
        texts: list[str] = []
        for rows in self._rows():
            texts += [text for name, text in rows if wanted(name)]
            if len(texts) >= REPORT_DOCUMENTS:
                break
        return texts[:REPORT_DOCUMENTS]

    def _rows(self) -> Iterator[list[tuple[str, str]]]:
        for part in self._parts:
            for batch in read_columns(part, ["id", "text"]):
                yield list(zip(batch["id"].to_pylist(), batch["text"].to_pylist(), strict=True))


def _report(tokenizer: Tokenizer, settings: Settings) -> dict[str, Any]:
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


def _rates(tokenizer: Tokenizer, texts: list[str]) -> dict[str, float]:
    tokens = sum(len(encoding.ids) for encoding in tokenizer.encode_batch(texts, add_special_tokens=False))
    return {
        "tokens_per_word": tokens / max(1, sum(len(text.split()) for text in texts)),
        "tokens_per_byte": tokens / max(1, sum(len(text.encode()) for text in texts)),
    }


def depends_on(job: Job) -> Any:
    """The settings; the context length is in the tokenizer's files, and the validation split is not trained on."""
    shards = job.configuration.shards
    return [VERSION, job.configuration.tokenizer.model_dump(), shards.max_seq_len, shards.val_fraction]


STAGE = Stage("tokenizer", needs=("select",), depends_on=depends_on, run=run, outputs=(FOLDER,))
