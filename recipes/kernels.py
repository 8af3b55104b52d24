"""What makes a plain model fast, applied from outside: compiled blocks and a compiled loss."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from model.gpt import GPT, Block
from model.loss import piece_of_loss
from recipes.schema import Compile


def compile_model(model: nn.Module, config: Compile) -> None:
    """Compile what training runs of each block, and the part of the loss that goes over the logits, in place.

    Called after sharding. All blocks share one graph, so the time to compile does not grow with their number; and
    FSDP2's hooks, which gather and release a block's weights, stay outside of it. Composer's own ``compile_config``
    would compile the whole sharded model, with a break in the graph at each of those hooks.
    """
    for module in model.modules():
        if isinstance(module, Block):
            module.forward = _compiled_in_training(module, config)  # type: ignore[method-assign]
        elif isinstance(module, GPT):
            module.piece_of_loss = torch.compile(piece_of_loss, mode=config.mode, dynamic=False)


def _compiled_in_training(block: Block, config: Compile) -> Callable[..., Tensor]:
    """Questions are scored at many lengths, and each would be compiled anew."""
    plain = block.forward
    compiled = torch.compile(plain, mode=config.mode, dynamic=False)
    return lambda *given: compiled(*given) if block.training else plain(*given)
