"""The tokenizer of a Hugging Face folder, by transformers, without code from the folder."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from base.errors import UserError
from eval.prompts import Encoder, FastEncoder


class SlowEncoder:
    """See :class:`eval.prompts.Encoder`: a tokenizer that transformers has in Python alone (BioGPT's)."""

    def __init__(self, tokenizer: Any, folder: Path, beginning_of_text: int | None):
        self.tokenizer = tokenizer
        self.beginning_of_text = beginning_of_text
        digest = hashlib.sha256(type(tokenizer).__name__.encode())
        for name in sorted(tokenizer.vocab_files_names.values()):
            if (folder / name).is_file():
                digest.update((folder / name).read_bytes())
        self.sha256 = digest.hexdigest()

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.tokenizer.encode(text, add_special_tokens=False) for text in texts]


def load_encoder(folder: Path) -> Encoder:
    """The tokenizer; its beginning of text is its ``bos_token``, or where it has none its ``eos_token``, as in lm-eval.

    Raises:
        UserError: transformers cannot load it, or it gives no ids.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError, TypeError) as error:
        raise UserError(f"model: {folder}: transformers cannot load its tokenizer: {error}", shared=True) from error
    beginning = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    encoder: Encoder
    if tokenizer.is_fast:
        encoder = FastEncoder(tokenizer.backend_tokenizer, beginning)
    else:
        encoder = SlowEncoder(tokenizer, folder, beginning)
    if not all(encoder(["Question: why?"])):
        # What transformers makes of files under other names than it expects: a tokenizer without entries.
        raise UserError(f"model: {folder}: its tokenizer gives no ids; look for its vocabulary's file", shared=True)
    return encoder
