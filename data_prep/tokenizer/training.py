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
