"""Weights to and from the GPT-2 layout of Hugging Face, both directions exact.

The two differ in three ways: GPT-2 stores linear weights transposed (Conv1D), calls the blocks ``transformer.h``,
and may store the tied head a second time.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from model.config import GPTConfig

TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")


def config_to_huggingface(config: GPTConfig, eos_token_id: int) -> dict[str, Any]:
    """The contents of ``config.json``."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": config.vocab_size,
        "n_positions": config.max_seq_len,
        "n_ctx": config.max_seq_len,
        "n_embd": config.d_model,
        "n_head": config.n_heads,
        "n_layer": config.n_layers,
        "n_inner": None if config.expansion_ratio == 4 else config.expansion_ratio * config.d_model,
        "activation_function": "gelu_new",
        "attn_pdrop": config.attn_pdrop,
        "resid_pdrop": config.resid_pdrop,
        "embd_pdrop": config.embd_pdrop,
        "layer_norm_epsilon": config.layer_norm_epsilon,
        "initializer_range": config.initializer_range,
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": config.scale_attn_by_inverse_layer_idx,
        "reorder_and_upcast_attn": False,
        "tie_word_embeddings": True,
        "bos_token_id": eos_token_id,
        "eos_token_id": eos_token_id,
        "torch_dtype": "float32",
    }


def config_from_huggingface(hf: Mapping[str, Any]) -> GPTConfig:
    """Read a GPT-2 ``config.json``. Raises ValueError naming every setting that this model does not have."""
    inner = hf.get("n_inner") or 4 * hf["n_embd"]
    unsupported = {
        "model_type": hf.get("model_type", "gpt2") != "gpt2",
        "activation_function": hf.get("activation_function", "gelu_new") not in ("gelu_new", "gelu_pytorch_tanh"),
        "scale_attn_weights": not hf.get("scale_attn_weights", True),
        "tie_word_embeddings": not hf.get("tie_word_embeddings", True),
        "n_inner": inner % hf["n_embd"] != 0,
    }
    if any(unsupported.values()):
        wrong = ", ".join(f"{key}={hf.get(key)!r}" for key, bad in unsupported.items() if bad)
        raise ValueError(f"not a GPT-2 that this model can take: {wrong}")
    return GPTConfig(
        vocab_size=hf["vocab_size"],
        max_seq_len=hf["n_positions"],
        d_model=hf["n_embd"],
        n_heads=hf["n_head"],
        n_layers=hf["n_layer"],
        expansion_ratio=inner // hf["n_embd"],
        attn_pdrop=hf.get("attn_pdrop", 0.1),
        resid_pdrop=hf.get("resid_pdrop", 0.1),
        embd_pdrop=hf.get("embd_pdrop", 0.1),
        layer_norm_epsilon=hf.get("layer_norm_epsilon", 1e-5),
        initializer_range=hf.get("initializer_range", 0.02),
        scale_attn_by_inverse_layer_idx=hf.get("scale_attn_by_inverse_layer_idx", False),
    )


def weights_to_huggingface(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names and layout of :class:`model.gpt.GPT` → those of ``GPT2LMHeadModel`` (without the tied head)."""
    renamed = {"transformer." + re.sub(r"^blocks\.", "h.", name): tensor for name, tensor in state.items()}
    return {name: _transposed_if_linear(name, tensor) for name, tensor in renamed.items()}


def weights_from_huggingface(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The way back.

    Raises:
        ValueError: a stored head differs from the token embedding; this model ties them.
    """
    head = state.get("lm_head.weight")
    if head is not None and not head.equal(state["transformer.wte.weight"]):
        raise ValueError("lm_head.weight differs from transformer.wte.weight; this model ties the two")
    ours: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name == "lm_head.weight" or name.endswith((".attn.bias", ".attn.masked_bias")):  # causal masks of old files
            continue
        short = re.sub(r"^h\.", "blocks.", name.removeprefix("transformer."))
        ours[short] = _transposed_if_linear(name, tensor)
    return ours


def _transposed_if_linear(name: str, tensor: Tensor) -> Tensor:
    return tensor.t().contiguous() if name.endswith(TRANSPOSED) else tensor
