"""What makes a plain model fast, applied from outside: compiled blocks and loss, attention, FP8."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import BlockMask

from model.branches import OfLayer
from model.gpt import GPT, Block
from model.loss import piece_of_loss
from recipes.schema import Compile, Float8


def compile_model(model: nn.Module, config: Compile) -> None:
    """Compile what training runs of each block, and the part of the loss that goes over the logits, in place.

    Called after sharding. All blocks share one graph, so the time to compile does not grow with their number; and
    FSDP2's hooks, which gather and release a block's weights, stay outside of it. Composer's own ``compile_config``
    would compile the whole sharded model, with a break in the graph at each of those hooks.
    """
    options = _options(config, next(model.parameters()).device)
    for module in model.modules():
        if isinstance(module, Block):
            module.forward = _compiled_in_training(module, options)  # type: ignore[method-assign]
        elif isinstance(module, GPT):
            module.piece_of_loss = torch.compile(piece_of_loss, dynamic=False, options=options)


def _options(config: Compile, device: torch.device) -> dict[str, Any]:
    """Of the mode; and on the CPU, random numbers from torch's own kernels and the number of threads.

    There inductor makes the random numbers of dropout one after the other; with eager mode's a step of 12M parameters
    took 13 % less time, and it drops what eager mode drops. And the number of threads is part of the code it writes,
    but not of the name under which that is kept on disk (torch 2.7.0): left to itself, a run on two threads takes up
    what a run on one thread has compiled, and runs on one.
    """
    options = torch._inductor.list_mode_options(config.mode)
    if device.type != "cpu":
        return options
    return options | {"fallback_random": True, "cpp.threads": torch.get_num_threads()}


def _compiled_in_training(block: Block, options: dict[str, Any]) -> Callable[..., Tensor]:
    """Questions are scored at many lengths, and each would be compiled anew.

    Within documents a GPU validates compiled as well, at its one length: FlexAttention as it is written makes all
    scores of every head. The CPU never runs it compiled: torch 2.7 has no backward pass of it there.
    """
    plain = block.forward
    compiled = torch.compile(plain, dynamic=False, options=options)

    def forward(
        x: Tensor, layer: Tensor, documents: BlockMask | None = None, branches: OfLayer | None = None
    ) -> Tensor:
        wanted = block.training if documents is None else x.is_cuda
        if not wanted:
            return plain(x, layer, documents, branches)
        with fastest_attention():  # the kernel is chosen when the graph is made
            return compiled(x, layer, documents)

    return forward


def attention_order(capability: tuple[int, int] | None) -> list[SDPBackend]:
    """Kernels of attention for a GPU of this compute capability (None: the CPU), the one to try first in front.

    cuDNN's first from Hopper on: on an H200 484 ms a microbatch of the 2.7B model against 493 with FlashAttention.
    torch 2.11 has this order by itself, torch 2.7 tries FlashAttention first.
    """
    order = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    hopper = capability is not None and capability >= (9, 0)
    return [SDPBackend.CUDNN_ATTENTION, *order] if hopper else order


def fastest_attention() -> AbstractContextManager[Any]:
    """Have the first kernel of ``attention_order`` that takes what is given. Not for scoring, whose lengths differ:
    cuDNN makes a plan for each.
    """
    capability = torch.cuda.get_device_capability() if torch.cuda.is_available() else None
    return sdpa_kernel(attention_order(capability), set_priority=True)


def use_float8(gpt: GPT, config: Float8, emulate: bool = False) -> None:
    """Have the linear layers of the blocks multiply in FP8 while they train, in place, by torchao.

    Called before sharding. Parameters stay what they are, with their names; the head is no layer of its own and stays
    in bf16; what is not training runs as without this.

    Args:
        gpt: the decoder.
        config: ``tensorwise`` scales each tensor, ``rowwise`` each row: slower, and less of a number is lost.
        emulate: reckon what FP8 would give in the products' own type, for a device that has no FP8.
    """
    from torchao.float8 import Float8LinearConfig, convert_to_float8_training
    from torchao.float8.float8_linear import Float8Linear

    class InTraining(Float8Linear):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if self.training else F.linear(x, self.weight, self.bias)

    recipe = Float8LinearConfig.from_recipe_name(config.recipe_name)
    convert_to_float8_training(gpt, config=replace(recipe, emulate=emulate))
    for module in gpt.modules():
        if isinstance(module, Float8Linear):
            module.__class__ = InTraining  # a function of each module's own would be compiled anew for each block
