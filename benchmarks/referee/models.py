"""The models that both sides score: one given as a folder, or one of random weights in a given shape."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from base.errors import UserError
from eval.gpt_scorer import GPTScorer
from eval.prompts import FastEncoder
from model.load import open_model

TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


@dataclass(frozen=True)
class Ours:
    """A GPT-2 folder as this repository scores it.

    Attributes:
        attention: transformers' implementation that computes this model: 4.53 drops ``scale_attn_by_inverse_layer_idx``
            on all but eager attention, without a message.
        shape: for the figures.
    """

    folder: Path
    scorer: GPTScorer
    encoder: FastEncoder
    max_seq_len: int
    attention: str
    shape: dict[str, Any]


def open_ours(folder: Path) -> Ours:
    """Load a Hugging Face GPT-2 folder in fp32, on the CPU.

    Raises:
        UserError: it is not a GPT-2 that this repository reads.
    """
    if not (folder / "config.json").exists():
        raise UserError(
            f"--model {folder}: no config.json; lm-eval needs a Hugging Face folder, as model.export makes it"
        )
    with open_model(str(folder)) as loaded:
        gpt = loaded.model.float()
    config = gpt.config
    shape = {
        "parameters": config.n_parameters,
        "layers": config.n_layers,
        "width": config.d_model,
        "heads": config.n_heads,
        "vocabulary": config.vocab_size,
    }
    return Ours(
        folder=folder,
        scorer=GPTScorer(lambda batch: gpt(**batch), torch.device("cpu")),
        encoder=FastEncoder(loaded.tokenizer),
        max_seq_len=config.max_seq_len,
        attention="eager" if config.scale_attn_by_inverse_layer_idx else "sdpa",
        shape=shape,
    )


def write_random(layers: int, width: int, heads: int, like: Ours, folder: Path) -> Path:
    """A GPT-2 folder with random weights, and the tokenizer and the length of another one."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=like.shape["vocabulary"], n_positions=like.max_seq_len, n_layer=layers, n_embd=width, n_head=heads
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    for name in TOKENIZER_FILES:
        if (like.folder / name).exists():
            shutil.copyfile(like.folder / name, folder / name)
    return folder
