"""``device_train_microbatch_size: auto``: an estimate, checked against what one and two sequences really take.

Composer's own ``auto`` runs into CUDA's out of memory and tries less; with FSDP2 it is not offered. Here no step is
tried that is not estimated to fit: memory grows by the same amount with each further sequence, so two small steps tell
what every larger one needs, and how far off the estimate was.
"""

import torch
from composer import Trainer
from composer.core.precision import get_precision_context
from composer.utils import dist

from base.errors import UserError
from base.progress import say
from model.config import GPTConfig
from recipes.memory import GIB, USABLE, divisors, largest_microbatch, memory_by_part
from recipes.schema import Training
from recipes.times import batch_sizes

NEAR = 0.1  # the part by which an estimate may be off without a word
REMEDY = "more ranks, fsdp_config.activation_checkpointing=true, or a smaller model"


def set_microbatch(trainer: Trainer, config: Training, model: GPTConfig) -> None:
    """Measure, choose the same size for all ranks, and give it to the Trainer. Nothing of the training changes.

    Raises:
        UserError: not even one sequence fits.
    """
    ranks = dist.get_world_size()
    gpu_bytes = min(dist.all_gather_object(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory))
    expected = largest_microbatch(config, model, ranks, gpu_bytes)
    if expected is None:
        estimated = sum(memory_by_part(config, model, ranks, 1).values())
        raise UserError(
            f"device_train_microbatch_size: one sequence is estimated to take {estimated / GIB:.1f} GiB of each GPU's "
            f"{gpu_bytes / GIB:.1f}, of which {USABLE:.0%} can be used; {REMEDY}",
            shared=True,
        )
    each = batch_sizes(config).first // ranks
    tried = sizes_to_try(each, expected)
    peaks = [max(dist.all_gather_object(_peak_bytes(trainer, model, size))) for size in tried]
    one, two = peaks[0], peaks[-1]
    moments = 0 if trainer.state.optimizers[0].state else _moments_bytes(trainer)  # the first step makes them
    size = largest_that_fits(each if len(tried) > 1 else 1, USABLE * gpu_bytes - moments, one, two)
    if size is None:
        raise UserError(
            f"device_train_microbatch_size: one sequence takes {(one + moments) / GIB:.1f} GiB of each GPU's "
            f"{gpu_bytes / GIB:.1f}; {REMEDY}",
            shared=True,
        )
    trainer.state.device_train_microbatch_size = size
    if dist.get_global_rank() == 0:
        measured = one + (size - 1) * (two - one) + moments
        say(
            f"microbatch {size} of {each} sequences a rank: {measured / GIB:.1f} of {gpu_bytes / GIB:.1f} GiB, by "
            f"steps of {' and '.join(map(str, tried))}; estimated beforehand: {expected}"
        )
        if trouble := off_by(measured, sum(memory_by_part(config, model, ranks, size).values())):
            say(trouble)


def sizes_to_try(each: int, expected: int) -> tuple[int, ...]:
    """Sequences of the steps that are tried: none that a rank does not have, none that the estimate does not let in."""
    return (1, 2) if min(each, expected) > 1 else (1,)


def off_by(measured: float, estimated: float) -> str | None:
    """What to say of an estimate that was not near."""
    if abs(measured / estimated - 1) <= NEAR:
        return None
    return (
        f"the estimate of a step's memory was {estimated / GIB:.1f} GiB, measured are {measured / GIB:.1f}: "
        "trust the measured one; please tell which GPU and settings these were (recipes/memory.py)"
    )


def largest_that_fits(each: int, room: float, one: int, two: int) -> int | None:
    """The largest divisor of ``each`` whose peak (``one``, and ``two - one`` for each further one) is in ``room``."""
    fitting = [size for size in divisors(each) if one + (size - 1) * (two - one) <= room]
    return fitting[-1] if fitting else None


def _peak_bytes(trainer: Trainer, model: GPTConfig, sequences: int) -> int:
    """Peak of a forward and a backward pass; gradients are dropped and random states put back.

    Of the second of two, as every microbatch but the first finds the gradients of the one before: in the first pass of
    a small size the gradients, which come as activations go, hide what a further sequence takes.

    Raises:
        UserError: on this rank: the estimate was wrong. The launcher ends the others.
    """
    state = trainer.state
    ids = torch.zeros(sequences, model.max_seq_len, dtype=torch.int64, device="cuda")
    with torch.random.fork_rng(devices=[torch.cuda.current_device()]):
        try:
            for _ in range(2):
                torch.cuda.reset_peak_memory_stats()
                with get_precision_context(state.precision, state.precision_config, fp8_autocast_enabled=False):
                    loss = state.model({"input_ids": ids})
                loss.backward()
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"device_train_microbatch_size: a step of {sequences} sequences was estimated to fit, and the GPU's "
                f"memory ran out (is something else on it? nvidia-smi); else {REMEDY}"
            ) from error
    state.optimizers[0].zero_grad()
    return torch.cuda.max_memory_allocated()


def _moments_bytes(trainer: Trainer) -> int:
    parameters = [p for group in trainer.state.optimizers[0].param_groups for p in group["params"]]
    local = [getattr(p, "_local_tensor", p) for p in parameters]
    return sum(2 * tensor.numel() * tensor.element_size() for tensor in local)
