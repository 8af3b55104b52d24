"""``device_train_microbatch_size: auto``: an estimate, checked against what one and two sequences really take.

Composer's own ``auto`` runs into CUDA's out of memory and tries less; with FSDP2 it is not offered. Here no step is
tried that is not expected to fit: memory grows by the same amount with each further sequence, so two small steps tell
what every larger one needs.
"""

import torch
from composer import Trainer
from composer.core.precision import get_precision_context
from composer.utils import dist

from base.errors import UserError
from base.progress import say
from model.config import GPTConfig
from recipes.memory import GIB, USABLE, divisors, largest_microbatch
from recipes.schema import Training
from recipes.times import batch_sizes


def set_microbatch(trainer: Trainer, config: Training, model: GPTConfig) -> None:
    """Measure, choose the same size for all ranks, and give it to the Trainer. Nothing of the training changes.

    Raises:
        UserError: on every rank, when not even one sequence fits.
    """
    gpu_bytes = min(dist.all_gather_object(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory))
    one, two = (max(dist.all_gather_object(_peak_bytes(trainer, model, size))) for size in (1, 2))
    moments = 0 if trainer.state.optimizers[0].state else _moments_bytes(trainer)  # the first step makes them
    each = batch_sizes(config).first // dist.get_world_size()
    size = largest_that_fits(each, USABLE * gpu_bytes - moments, one, two)
    if size is None:
        raise UserError(
            f"device_train_microbatch_size: one sequence takes {(one + moments) / GIB:.1f} GiB of each GPU's "
            f"{gpu_bytes / GIB:.1f}; more ranks, fsdp_config.activation_checkpointing=true, or a smaller model",
            shared=True,
        )
    trainer.state.device_train_microbatch_size = size
    if dist.get_global_rank() == 0:
        expected = largest_microbatch(config, model, dist.get_world_size(), gpu_bytes)
        say(
            f"microbatch {size} of {each} sequences a rank: {(one + (size - 1) * (two - one) + moments) / GIB:.1f} of "
            f"{gpu_bytes / GIB:.1f} GiB, by steps of one and two; estimated beforehand: {expected}"
        )


def largest_that_fits(each: int, room: float, one: int, two: int) -> int | None:
    """The largest divisor of ``each`` whose peak (``one``, and ``two - one`` for each further one) is in ``room``."""
    fitting = [size for size in divisors(each) if one + (size - 1) * (two - one) <= room]
    return fitting[-1] if fitting else None


def _peak_bytes(trainer: Trainer, model: GPTConfig, sequences: int) -> int:
    """Peak of a forward and a backward pass; gradients are dropped and random states put back.

    Of the second of two, as every microbatch but the first finds the gradients of the one before: in the first pass of
    a small size the gradients, which come as activations go, hide what a further sequence takes.
    """
    state = trainer.state
    ids = torch.zeros(sequences, model.max_seq_len, dtype=torch.int64, device="cuda")
    with torch.random.fork_rng(devices=[torch.cuda.current_device()]):
        for _ in range(2):
            torch.cuda.reset_peak_memory_stats()
            with get_precision_context(state.precision, state.precision_config, fp8_autocast_enabled=False):
                loss = state.model({"input_ids": ids})
            loss.backward()
    state.optimizers[0].zero_grad()
    return torch.cuda.max_memory_allocated()


def _moments_bytes(trainer: Trainer) -> int:
    parameters = [p for group in trainer.state.optimizers[0].param_groups for p in group["params"]]
    local = [getattr(p, "_local_tensor", p) for p in parameters]
    return sum(2 * tensor.numel() * tensor.element_size() for tensor in local)
