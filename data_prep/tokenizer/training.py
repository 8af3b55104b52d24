"""A byte-level BPE, trained as BioMedLM's was, and its files.

Source: the paper's table 2 and its ``tokenize/train_bpe.py``: no normalizer, no prefix space, offsets trimmed, 256
bytes as first alphabet, minimum frequency 2. One difference, which the released files show too: BioMedLM's script asks
for 28,896 entries and would put ``<|endoftext|>`` at 28,896, outside its own embedding; here, as in the release, one
entry fewer is trained and ``<|endoftext|>`` is the last id.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

END_OF_TEXT = "<|endoftext|>"


def train(texts: Iterator[list[str]], vocab_size: int, min_frequency: int) -> Tokenizer:
    """A tokenizer of at most ``vocab_size`` entries, the last of which is ``<|endoftext|>``. Same text, same result."""
    tokenizer = byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        min_frequency=min_frequency,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[],
        show_progress=sys.stderr.isatty(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _ended(tokenizer)


def truncated(tokenizer: Tokenizer, vocab_size: int) -> Tokenizer:
    """The tokenizer that training at a smaller size would have given: merges come one by one, the most frequent first.

    ``tokenizer`` itself is as good as it gets when it has no more entries than that.
    """
    if tokenizer.get_vocab_size() <= vocab_size:
        return tokenizer
    description = json.loads(tokenizer.to_str())["model"]
    vocabulary = {token: index for token, index in description["vocab"].items() if index < vocab_size - 1}
    merges = []
    built = len(pre_tokenizers.ByteLevel.alphabet())
    for left, right in description["merges"]:
        if built == len(vocabulary):
            break
        built = max(built, vocabulary[left + right] + 1)  # two merges may end in one entry
        merges.append((left, right))
    return _ended(byte_level(models.BPE(vocab=vocabulary, merges=merges)))


def byte_level(model: models.BPE) -> Tokenizer:
    """A model with all that stands around it, but the end of text."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)  # type: ignore[assignment]
    return tokenizer


def end_of_text() -> AddedToken:
    """``<|endoftext|>`` as a special token."""
    return AddedToken(END_OF_TEXT, special=True, normalized=False)


def _ended(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.add_special_tokens([end_of_text()])
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
