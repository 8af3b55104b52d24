"""What several test modules ask: questions of our own, and models whose answers differ enough to see mistakes."""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from eval.gpt_scorer import GPTScorer
from eval.official_files import Questions, load_questions
from eval.tasks import protocols
from model.gpt import GPT
from model.huggingface import config_from_huggingface, weights_from_huggingface

CPU = torch.device("cpu")


def questions_of(name: str, data: object, limit: int | None = None) -> Questions:
    return load_questions(protocols([name])[0], str(data), limit)


def small_gpt2(vocab_size: int, max_seq_len: int = 128) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    shape = GPT2Config(vocab_size=vocab_size, n_positions=max_seq_len, n_embd=32, n_layer=2, n_head=2)
    shape._attn_implementation = "eager"
    model = GPT2LMHeadModel(shape)
    with torch.no_grad():  # a fresh GPT-2 gives nearly equal logits
        model.transformer.wte.weight.mul_(20)
    return model.eval()


def scorer_of(gpt: GPT) -> GPTScorer:
    def forward(batch: Mapping[str, Any]) -> torch.Tensor:
        return gpt(batch["input_ids"], positions=batch["positions"], branches=batch.get("branches"))

    return GPTScorer(forward, CPU)


def ours(model: GPT2LMHeadModel) -> GPT:
    """The same model by our module."""
    gpt = GPT(config_from_huggingface(model.config.to_dict()))
    gpt.load_state_dict(weights_from_huggingface(model.state_dict()))
    return gpt.eval()
