"""Stage ``tokenizer``: ``OUT/tokenizer``, a byte-level BPE trained on the documents, as BioMedLM's was.

Source: the paper's table 2 and its ``tokenize/train_bpe.py``: no normalizer, no prefix space, offsets trimmed, 256
bytes as first alphabet, minimum frequency 2. One difference, which the released files show too: BioMedLM's script asks
for 28,896 entries and would put ``<|endoftext|>`` at 28,896, outside its own embedding; here, as in the release, one
entry fewer is trained and ``<|endoftext|>`` is the last id.
"""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from base.errors import UserError
from base.progress import progress, say
from base.storage import sha256
from data_prep.documents import DOCUMENTS, document_hash, is_validation, parts, read_columns
from data_prep.schema import Tokenizer as Settings
from data_prep.stage import Job, Stage

VERSION = 1
FOLDER = "tokenizer"
END_OF_TEXT = "<|endoftext|>"
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


def train(texts: Iterator[list[str]], vocab_size: int, min_frequency: int) -> Tokenizer:
    """A tokenizer of at most ``vocab_size`` entries, the last of which is ``<|endoftext|>``. Same text, same result."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        min_frequency=min_frequency,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[],
        show_progress=sys.stderr.isatty(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
    assert tokenizer.token_to_id(END_OF_TEXT) == tokenizer.get_vocab_size() - 1
    return tokenizer


def write_tokenizer(tokenizer: Tokenizer, folder: Path, max_length: int) -> None:
    """The files that ``AutoTokenizer.from_pretrained`` loads."""
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer.model.save(str(folder))  # vocab.json, merges.txt
    specials = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "unk_token": END_OF_TEXT}
    configuration = {
        **specials,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,  # decoding gives back the very text
        "model_max_length": max_length,
        "tokenizer_class": "GPT2TokenizerFast",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(configuration, indent=1) + "\n", encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(specials, indent=1) + "\n", encoding="utf-8")


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer for encoding documents: a document that quotes ``<|endoftext|>`` does not end there."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    return tokenizer


def load_other(name: str, place: str) -> Tokenizer:
    """Another tokenizer to compare with: a folder with ``tokenizer.json``, or with ``vocab.json`` and ``merges.txt``.

    Raises:
        UserError: neither is there.
    """
    folder = Path(place)
    if (folder / "tokenizer.json").is_file():
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        tokenizer = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
        return tokenizer
    raise UserError(
        f"tokenizer.compare_with.{name}: {place} holds neither tokenizer.json nor vocab.json and merges.txt"
    )


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
