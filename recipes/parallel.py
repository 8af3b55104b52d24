"""Sharding by FSDP2, applied from outside to a model that knows nothing of it."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from composer import State
from composer.utils import dist
from composer.utils.parallelism import FSDP2Config
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.fsdp._fully_shard import _fsdp_collectives

from model.composer_gpt import ComposerGPT
from model.gpt import GPT
from recipes.schema import FSDP


@dataclass
class HybridFSDP2Config(FSDP2Config):
    """FSDP2 within groups of ranks, replicated between them.

    Composer 0.32.1 makes the mesh itself, from these two numbers, and overwrites one that it is given; FSDP2Config has
    them fixed at "all ranks, one replica".
    """

    shard_degree: int = -1

    @property
    def data_parallel_shard_degree(self) -> int:
        return self.shard_degree

    @property
    def data_parallel_replicate_degree(self) -> int | None:
        return -1  # as many as there are ranks for


def build_parallelism(config: FSDP) -> dict[str, FSDP2Config]:
    """FSDP2 as an object: handed over as a dictionary it would be dropped without a word (Composer 0.32.1)."""
    settings = {
        "reshard_after_forward": config.sharding_strategy != "SHARD_GRAD_OP",
        "mixed_precision": config.mixed_precision,
        "activation_checkpointing": config.activation_checkpointing,
        "activation_cpu_offload": config.activation_cpu_offload,
        "state_dict_type": "sharded",
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="FSDP2 Config/APIs are experimental")  # known, pinned and tested
        if config.sharding_strategy == "HYBRID_SHARD":
            assert config.data_parallel_shard_degree is not None  # the schema asks for it
            return {"fsdp": HybridFSDP2Config(shard_degree=config.data_parallel_shard_degree, **settings)}
        return {"fsdp": FSDP2Config(**settings)}


def is_sharded() -> bool:
    """A single rank has the whole model anyway; FSDP2 would only copy each weight and each gradient once more."""
    return dist.get_world_size() > 1


def leave_whole(model: ComposerGPT) -> None:
    """Have Composer leave the model of a single rank as it is, and still keep checkpoints in the sharded layout.

    So a run may go on with another number of ranks. Composer 0.32.1 writes that layout only for what FSDP has wrapped;
    torch's distributed checkpoints, with which it is written, take plain tensors just as well.
    """
    model.gpt._fsdp_wrap = False  # deprecated; but of the model as a whole fsdp_wrap_fn is not asked
    model.gpt.fsdp_wrap_fn = lambda module: False
    State.fsdp_sharded_state_dict_enabled = property(lambda state: state.fsdp_config is not None)


@contextmanager
def deprecation_unshown() -> Iterator[None]:
    """Not to show that ``_fsdp_wrap`` is deprecated: Composer puts a filter for it before any of ours."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_others(message: Any, *about: Any, **more: Any) -> None:
            if "_fsdp_wrap" not in str(message):
                show(message, *about, **more)

        warnings.showwarning = show_others
        yield


def recompute_every(model: nn.Module, interval: int) -> None:
    """Have Composer recompute the activations of every ``interval``-th block only."""
    for gpt in model.modules():
        if isinstance(gpt, GPT):
            chosen = set(gpt.blocks[interval - 1 :: interval])
            gpt.activation_checkpointing_fn = chosen.__contains__


def average_gradients(model: nn.Module) -> None:
    """Make FSDP2 average gradients over the ranks on gloo, which cannot.

    FSDP2 reduces with ReduceOp.AVG. The reduce-scatter of gloo (torch 2.7.0) takes it for a sum, without a word: on the
    CPU every gradient, and its logged norm, would be as many times too large as there are ranks, and clipping that much
    too strong. Its all-reduce, which hybrid sharding needs, refuses it. So they sum there, and FSDP2 divides.
    """
    if torch.distributed.get_backend() != "gloo":
        return
    if hasattr(FSDPModule, "set_force_sum_reduction_for_comms"):  # torch 2.8 and later
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.set_force_sum_reduction_for_comms(True)
        return
    # In torch 2.7 only fp16 is summed and divided, and this function decides it.
    ranks = float(torch.distributed.get_world_size())
    _fsdp_collectives._get_gradient_divide_factors = lambda *unused: (1.0, ranks)
    # And its hybrid sharding asserts an event, which the streams of the CPU, where nothing waits, do not give.
    torch.cpu.Stream.record_event = lambda stream: torch.cpu.Event()


def leave() -> None:
    """Leave the process group at the end of a run, where that must be said: NCCL's.

    gloo's ends with the process. Destroying it right after a collective can wait for ever (torch 2.7.0): its thread
    needs the interpreter's lock to let the last tensors go, and the destroying thread holds that while it waits.
    """
    if torch.distributed.get_backend() == "nccl":
        torch.distributed.destroy_process_group()
