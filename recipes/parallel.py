"""Sharding by FSDP2, applied from outside to a model that knows nothing of it."""

import warnings

import torch
from composer.utils.parallelism import FSDP2Config
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from recipes.schema import FSDP


def build_parallelism(config: FSDP) -> dict[str, FSDP2Config]:
    """FSDP2 as an object: handed over as a dictionary it would be dropped without a word (Composer 0.32.1)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="FSDP2 Config/APIs are experimental")  # known, pinned and tested
        fsdp = FSDP2Config(
            reshard_after_forward=config.sharding_strategy != "SHARD_GRAD_OP",
            mixed_precision=config.mixed_precision,
            activation_checkpointing=config.activation_checkpointing,
            activation_cpu_offload=config.activation_cpu_offload,
            state_dict_type="sharded",
        )
    return {"fsdp": fsdp}


def average_gradients(model: nn.Module) -> None:
    """Make FSDP2 average gradients over the ranks where the backend sums them.

    FSDP2 reduces with ReduceOp.AVG. The reduce-scatter of gloo (torch 2.7.0) takes it for a sum, without a word: on
    the CPU every gradient, and its logged norm, would be as many times too large as there are ranks, and clipping that
    much too strong. What the backend does is asked of it, so nothing is divided twice under another torch.
    """
    factor = _average_of_ones()
    if factor == 1.0:
        return

    def divide(gradient: Tensor) -> None:
        gradient.div_(factor)

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_all_reduce_hook(divide)


def leave() -> None:
    """Leave the process group at the end of a run, where that must be said: NCCL's.

    gloo's ends with the process. Destroying it right after a collective can wait for ever (torch 2.7.0): its thread
    needs the interpreter's lock to let the last tensors go, and the destroying thread holds that while it waits.
    """
    if torch.distributed.get_backend() == "nccl":
        torch.distributed.destroy_process_group()


def _average_of_ones() -> float:
    """What the backend makes of the average of a one from each rank."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    ones = torch.ones(torch.distributed.get_world_size(), device=device)
    mine = torch.empty(1, device=device)
    torch.distributed.reduce_scatter_tensor(mine, ones, op=torch.distributed.ReduceOp.AVG)
    return mine.item()
