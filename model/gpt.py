"""GPT-2 as BioMedLM has it, in the order in which a token travels.

Pre-LN blocks, learned absolute positions, tanh GELU, biases everywhere, the head tied to the token embedding, and
attention scores of layer i divided by (i + 1). Source: config.json of stanford-crfm/BioMedLM; Radford et al. 2019.

Shapes: B batch, T positions, D d_model, H heads, V vocabulary, P scored positions.
"""

import hashlib
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import GPTConfig


class Attention(nn.Module):
    """Causal self-attention through ``scaled_dot_product_attention``, with the scale given by us."""

    def __init__(self, config: GPTConfig, layer_idx: int):
        super().__init__()
        self.n_heads = config.n_heads
        self.dropout = config.attn_pdrop
        self.scale = config.d_head**-0.5
        if config.scale_attn_by_inverse_layer_idx:
            self.scale /= layer_idx + 1
        self.c_attn = nn.Linear(config.d_model, 3 * config.d_model)
        self.c_proj = nn.Linear(config.d_model, config.d_model)

    def forward(self, x: Tensor) -> Tensor:
        B, T, D = x.shape
        q, k, v = self.c_attn(x).view(B, T, 3, self.n_heads, D // self.n_heads).unbind(2)  # each B T H D/H
        y = F.scaled_dot_product_attention(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=True,
            scale=self.scale,
        )  # B H T D/H
        return self.c_proj(y.transpose(1, 2).reshape(B, T, D))


class MLP(nn.Module):
    """Two linear layers with the tanh GELU between them ("gelu_new", as one fused kernel)."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        hidden = config.expansion_ratio * config.d_model
        self.c_fc = nn.Linear(config.d_model, hidden)
        self.c_proj = nn.Linear(hidden, config.d_model)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


class Block(nn.Module):
    """Attention and MLP, each normed before and added after. The unit of sharding and of recomputation."""

    def __init__(self, config: GPTConfig, layer_idx: int):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.d_model, eps=config.layer_norm_epsilon)
        self.attn = Attention(config, layer_idx)
        self.ln_2 = nn.LayerNorm(config.d_model, eps=config.layer_norm_epsilon)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attn(self.ln_1(x)))
        return x + self.dropout(self.mlp(self.ln_2(x)))


class GPT(nn.Module):
    """The decoder. With ``labels`` it returns the loss, without them logits."""

    def __init__(self, config: GPTConfig, device: str | torch.device | None = None):
        super().__init__()
        self.config = config
        with torch.device(device) if device is not None else torch.device("cpu"):
            self.wte = nn.Embedding(config.vocab_size, config.d_model)
            self.wpe = nn.Embedding(config.max_seq_len, config.d_model)
            self.dropout = nn.Dropout(config.embd_pdrop)
            self.blocks = nn.ModuleList(Block(config, layer_idx) for layer_idx in range(config.n_layers))
            self.ln_f = nn.LayerNorm(config.d_model, eps=config.layer_norm_epsilon)

    def forward(self, input_ids: Tensor, labels: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """Run the decoder.

        Args:
            input_ids: B T, int64.
            labels: B T, int64, usually the input itself; position t is asked for label t + 1. -100 is not asked for.
            positions: B P, int64; logits are given only there. The projection is a large part of a small model.

        Returns:
            The mean cross entropy in nats (scalar, fp32) with ``labels``; else logits, B P V or B T V.
        """
        T = input_ids.shape[1]
        if self.config.max_seq_len < T:
            raise ValueError(f"{T} positions; the model has learned {self.config.max_seq_len}")
        x = self.wte(input_ids) + self.wpe(torch.arange(T, device=input_ids.device))  # B T D
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x)
        x = self.ln_f(x)
        if positions is not None:
            x = x.gather(1, positions.unsqueeze(-1).expand(-1, -1, x.shape[-1]))  # B P D
        logits = F.linear(x, self.wte.weight)  # B T V or B P V
        if labels is None:
            return logits
        targets = labels.new_full(labels.shape, -100)
        targets[:, :-1] = labels[:, 1:]
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=-100)


def initialize(gpt: GPT, seed: int) -> None:
    """Give ``gpt`` its initial weights, in place; see :func:`initialize_module`."""
    for name, module in gpt.named_modules():
        initialize_module(module, name, gpt.config, seed)


def initialize_module(module: nn.Module, name: str, config: GPTConfig, seed: int) -> None:
    """Initialise the parameters that ``module`` itself holds: N(0, 0.02), biases 0, norms 1.

    Residual projections get 0.02 / sqrt(2 x layers), as in GPT-2. Each tensor is drawn on the CPU from a generator
    of its own, seeded by ``seed`` and the tensor's name. So the weights depend on the seed alone: not on the number
    of ranks (a rank keeps its slice of the same whole tensor), nor on the device, nor on the order of the modules.
    """
    residual_std = config.initializer_range / math.sqrt(2 * config.n_layers)
    with torch.no_grad():
        for leaf, parameter in module.named_parameters(recurse=False):
            if isinstance(module, nn.LayerNorm):
                parameter.fill_(1.0 if leaf == "weight" else 0.0)
            elif leaf == "bias":
                parameter.zero_()
            else:
                std = residual_std if name.endswith("c_proj") else config.initializer_range
                _copy_whole_into(parameter, _normal(parameter.shape, std, seed, f"{name}.{leaf}"))


def _normal(shape: torch.Size, std: float, seed: int, name: str) -> Tensor:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    return torch.empty(shape).normal_(0.0, std, generator=generator)


def _copy_whole_into(parameter: Tensor, whole: Tensor) -> None:
    """Copy ``whole`` into a parameter, or this rank's part of it when the parameter is sharded (a DTensor)."""
    from torch.distributed.tensor import DTensor
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    if not isinstance(parameter, DTensor):
        parameter.copy_(whole)
        return
    shape, offset = compute_local_shape_and_global_offset(whole.shape, parameter.device_mesh, parameter.placements)
    mine = tuple(slice(start, start + length) for start, length in zip(offset, shape, strict=True))
    parameter.to_local().copy_(whole[mine])
