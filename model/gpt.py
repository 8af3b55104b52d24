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
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from model.branches import Branches, OfLayer
from model.config import GPTConfig
from model.documents import document_mask
from model.loss import PieceOfLoss, next_token_loss, piece_of_loss


class Attention(nn.Module):
    """Causal self-attention through ``scaled_dot_product_attention``."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.n_heads = config.n_heads
        self.dropout = config.attn_pdrop
        self.by_layer = config.scale_attn_by_inverse_layer_idx
        self.c_attn = nn.Linear(config.d_model, 3 * config.d_model)
        self.c_proj = nn.Linear(config.d_model, config.d_model)

    def forward(self, x: Tensor, layer: Tensor, documents: BlockMask | None, branches: OfLayer | None) -> Tensor:
        B, T, D = x.shape
        qkv = self.c_attn(x).view(B, T, 3, self.n_heads, D // self.n_heads)
        q, k, v = qkv.transpose(1, 3).unbind(2)  # each B H T D/H
        if self.by_layer:
            q = q / layer
        if branches is not None:
            k, v = branches.after_beginning(k, v)  # B H P+T D/H
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=branches.sees)  # B H T D/H
        elif documents is None:
            p = self.dropout if self.training else 0.0
            y = F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)  # B H T D/H
        else:
            y = flex_attention(q, k, v, block_mask=documents)  # B H T D/H; it knows no dropout
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
    """Attention and MLP, each normed before and added after. The unit of sharding, compiling and recomputation.

    ``layer`` is the block's number from 1, int64 and 0-dimensional. As a tensor, not a number of the module, because a
    compiled graph holds numbers fast: there would be one for each block. As an integer, because FSDP2 casts what is
    floating to bf16.
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.d_model, eps=config.layer_norm_epsilon)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.d_model, eps=config.layer_norm_epsilon)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.resid_pdrop)

    def forward(
        self, x: Tensor, layer: Tensor, documents: BlockMask | None = None, branches: OfLayer | None = None
    ) -> Tensor:
        x = x + self.dropout(self.attn(self.ln_1(x), layer, documents, branches))
        if branches is not None and branches.asked_for is not None:
            x = x.flatten(0, 1)[branches.asked_for]  # N D: of the last block nothing else is needed
        return x + self.dropout(self.mlp(self.ln_2(x)))


class GPT(nn.Module):
    """The decoder. With ``labels`` it returns the loss, without them logits.

    Args:
        config: the shape.
        device: where the weights are made; ``meta``: nowhere yet.
        z_loss: see :func:`model.loss.next_token_loss`.
        end_of_text: with it, training attends within documents, which this id ends; needs ``attn_pdrop`` 0.
    """

    def __init__(
        self,
        config: GPTConfig,
        device: str | torch.device | None = None,
        z_loss: float = 0.0,
        end_of_text: int | None = None,
    ):
        super().__init__()
        if end_of_text is not None and config.attn_pdrop > 0:
            raise ValueError(f"attention within documents knows no dropout, and attn_pdrop is {config.attn_pdrop}")
        self.config = config
        self.z_loss = z_loss
        self.end_of_text = end_of_text
        self.piece_of_loss: PieceOfLoss = piece_of_loss  # recipes/kernels.py puts the compiled one here
        with torch.device(device) if device is not None else torch.device("cpu"):
            self.wte = nn.Embedding(config.vocab_size, config.d_model)
            self.wpe = nn.Embedding(config.max_seq_len, config.d_model)
            self.dropout = nn.Dropout(config.embd_pdrop)
            self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
            self.ln_f = nn.LayerNorm(config.d_model, eps=config.layer_norm_epsilon)

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor | None = None,
        positions: Tensor | None = None,
        branches: Branches | None = None,
    ) -> Tensor:
        """Run the decoder.

        Args:
            input_ids: B T, int64.
            labels: B T, int64, usually the input itself; position t is asked for label t + 1. -100 is not asked for.
            positions: B P, int64; logits are given only there. The projection is a large part of a small model. With
                branches N: tokens of all rows, counted through the rows, and not None.
            branches: of rows that branch; None: each row is one text.

        Returns:
            With ``labels`` the mean cross entropy in nats (scalar, fp32; in training with the z-loss); else logits,
            B P V or N V, in fp32, or B T V.
        """
        T = input_ids.shape[1]
        if branches is None and self.config.max_seq_len < T:
            raise ValueError(f"{T} positions; the model has learned {self.config.max_seq_len}")
        places = torch.arange(T, device=input_ids.device) if branches is None else branches.places
        x = self.wte(input_ids) + self.wpe(places)  # B T D
        x = self.dropout(x)
        # The residual stream too is in autocast's type, as it is when FSDP2 casts the embeddings.
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        documents = None
        if self.end_of_text is not None and labels is not None:
            documents = document_mask(input_ids, self.end_of_text)
        layers = torch.arange(1, len(self.blocks) + 1, device=x.device)
        for number, (layer, block) in enumerate(zip(layers, self.blocks, strict=True)):
            if branches is None:
                x = block(x, layer, documents)
            else:
                asked_for = positions if number == len(self.blocks) - 1 else None
                x = block(x, layer, None, branches.of_layer(number, asked_for))
        x = self.ln_f(x)
        if labels is not None:
            z_loss = self.z_loss if self.training else 0.0
            return next_token_loss(x, self.wte.weight, labels, z_loss, self.piece_of_loss)
        if positions is not None and branches is None:
            x = x.gather(1, positions.unsqueeze(-1).expand(-1, -1, x.shape[-1]))  # B P D
        if positions is None:
            return F.linear(x, self.wte.weight)  # B T V
        # In fp32 whatever the precision: around 64, bf16 has no number between 64 and 64.5, and options would be equal.
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x.float(), self.wte.weight.float())  # B P V or N V


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
