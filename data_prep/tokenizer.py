"""Stage ``tokenizer``: ``OUT/tokenizer``, a byte-level BPE trained on the documents, as BioMedLM's was.

Source: the paper's table 2 and its ``tokenize/train_bpe.py``: no normalizer, no prefix space, offsets trimmed, 256
bytes as first alphabet, minimum frequency 2. One difference, which the released files show too: BioMedLM's script asks
for 28,896 entries and would put ``<|endoftext|>`` at 28,896, outside its own embedding; here, as in the release, one
entry fewer is trained and ``<|endoftext|>`` is the last id.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from base.errors import UserError
from base.progress import progress, say
from base.storage import sha256
from data_prep.documents import DOCUMENTS, document_hash, parts, read_columns
from data_prep.stage import Job, Stage

VERSION = 1
FOLDER = "tokenizer"
END_OF_TEXT = "<|endoftext|>"
REPORT_DOCUMENTS = 2000  # on so many documents the rates are measured


def run(job: Job) -> dict[str, Any]:
    """Train, measure, write."""
    settings = job.configuration.tokenizer
    folder = job.local / DOCUMENTS
    documents, size = _size(folder)
    share = min(1.0, settings.max_training_bytes / size)
    with progress("tokenizer, read", round(documents * share), "documents") as advance:

        def batches() -> Iterator[list[str]]:
            for texts in _texts(folder, share, f"tokenizer-{settings.seed}"):
                advance(len(texts))
                yield texts

        tokenizer = train(batches(), settings.vocab_size, settings.min_frequency)
    report = _report(tokenizer, folder, settings.vocab_size, settings.min_frequency, settings.compare_with)
    report["training"] = {"documents": round(documents * share), "bytes": round(size * share), "of_bytes": size}
    with job.building(FOLDER) as aside:
        write_tokenizer(tokenizer, aside, job.configuration.shards.max_seq_len)
        report["sha256"] = sha256(aside / "tokenizer.json")
        (aside / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    say(f"tokenizer: {report['vocab_size']} entries, {report['tokens_per_word']:.3f} tokens per word")
    if report["vocab_size"] < settings.vocab_size:
        say(f"tokenizer: SMALLER than the {settings.vocab_size} asked for: {report['reason']}")
    return report


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


def _size(folder: Path) -> tuple[int, int]:
    """Documents, and bytes of their text."""
    documents = size = 0
    for part in parts(folder):
        for batch in read_columns(part, ["text"], rows=10_000):
            documents += len(batch)
            size += pc.sum(pc.binary_length(batch["text"])).as_py()
    return documents, size


def _texts(folder: Path, share: float, purpose: str) -> Iterator[list[str]]:
    """A share of the documents, chosen by the hash of their ids, in the order of the files."""
    limit = round(share * 2**64)
    for part in parts(folder):
        for batch in read_columns(part, ["id", "text"]):
            pairs = zip(batch["id"].to_pylist(), batch["text"].to_pylist(), strict=True)
            yield [text for name, text in pairs if share == 1.0 or document_hash(name, purpose) < limit]


def _report(
    tokenizer: Tokenizer, folder: Path, asked: int, min_frequency: int, others: dict[str, str]
) -> dict[str, Any]:
    texts: list[str] = []
    for batch in _texts(folder, 1.0, "report"):
        texts += batch[: REPORT_DOCUMENTS - len(texts)]
        if len(texts) == REPORT_DOCUMENTS:
            break
    size = tokenizer.get_vocab_size()
    reason = (
        "as asked"
        if size == asked
        else f"the text holds no further pair of tokens that occurs {min_frequency} times or more"
        " (tokenizer.min_frequency)"
    )
    return {
        "vocab_size": size,
        "asked": asked,
        "reason": reason,
        "min_frequency": min_frequency,
        "tokens_per_word": _tokens(tokenizer, texts) / max(1, sum(len(text.split()) for text in texts)),
        "tokens_per_byte": _tokens(tokenizer, texts) / max(1, sum(len(text.encode()) for text in texts)),
        "compared": {
            name: _tokens(_other_tokenizer(name, Path(place)), texts) / max(1, sum(len(text.split()) for text in texts))
            for name, place in others.items()
        },
        "measured_on": f"the first {len(texts)} documents, among those trained on",
    }


def _tokens(tokenizer: Tokenizer, texts: list[str]) -> int:
    return sum(len(encoding.ids) for encoding in tokenizer.encode_batch(texts))


def _other_tokenizer(name: str, folder: Path) -> Tokenizer:
    """A tokenizer to compare with, from tokenizer.json or from GPT-2's two files."""
    if (folder / "tokenizer.json").exists():
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    if not ((folder / "vocab.json").exists() and (folder / "merges.txt").exists()):
        raise UserError(
            f"tokenizer.compare_with.{name}: {folder}: neither tokenizer.json, nor vocab.json with merges.txt"
        )
    other = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    other.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    return other


def depends_on(job: Job) -> Any:
    """The settings; the context length is in the tokenizer's files."""
    return [VERSION, job.configuration.tokenizer.model_dump(), job.configuration.shards.max_seq_len]


STAGE = Stage("tokenizer", needs=("select",), depends_on=depends_on, run=run, outputs=(FOLDER,))
