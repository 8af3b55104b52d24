"""Memory of a training step on one GPU, part by part, before there is a GPU. Imports nothing heavy."""

from model.config import GPTConfig
from recipes.schema import Training
from recipes.times import batch_sizes

GIB = 2**30
# What may be used of a GPU's memory: the rest is for its context, communication and fragments.
USABLE = 0.92

# Bytes that stay allocated for a token and a layer until its backward pass, in units of d_model, in bf16: inputs of the
# products, of the norms and of GELU, masks of dropout. Of the peaks of the 2.7B model on an H200, with dropout 0.1:
# benchmarks/records/gpu-2026-11-27*.json.
ACTIVATION_UNITS = 41
COMPILED_UNITS = 37
RECOMPUTED_UNITS = 4


def memory_by_part(config: Training, model: GPTConfig, world_size: int, microbatch: int) -> dict[str, float]:
    """Estimated bytes on each GPU.

    Parameters, gradients and the two Adam moments are fp32 and sharded; under bf16 the units in use are gathered in
    bf16 (two blocks and the root, or all with SHARD_GRAD_OP). A single rank is not sharded: there autocast makes the
    bf16 copies, and keeps all of them until the backward pass where blocks are not compiled. Gradients come as
    activations go: with one microbatch a step they are not there when memory is fullest, and the estimate is too large
    by them.
    """
    fsdp = config.fsdp_config
    shards = fsdp.data_parallel_shard_degree or world_size
    embeddings = (model.vocab_size + model.max_seq_len) * model.d_model
    block = (model.n_parameters - embeddings) / model.n_layers
    width = 2 if config.precision == "amp_bf16" else 4
    all_gathered = world_size == 1 or fsdp.sharding_strategy == "SHARD_GRAD_OP"
    gathered = model.n_parameters if all_gathered else 2 * block + embeddings
    kept = COMPILED_UNITS if config.compile_config is not None else ACTIVATION_UNITS
    recomputed = 1 / fsdp.activation_checkpointing_interval if fsdp.activation_checkpointing else 0.0
    units = recomputed * RECOMPUTED_UNITS + (1 - recomputed) * kept
    tokens = microbatch * model.max_seq_len
    return {
        "parameters": 4 * model.n_parameters / shards,
        "gradients": 4 * model.n_parameters / shards,
        "Adam moments": 8 * model.n_parameters / shards,
        "weights to compute with": width * gathered if width == 2 or world_size > 1 else 0.0,
        "activations": tokens * model.n_layers * model.d_model * units * width / 2,
        # A piece of the logits with its gradient and their copies in fp32, and the head's gradient in fp32.
        "logits and loss": 12.0 * min(tokens, 4096) * model.vocab_size + 4.0 * model.vocab_size * model.d_model,
    }


def largest_microbatch(config: Training, model: GPTConfig, world_size: int, gpu_bytes: float) -> int | None:
    """The largest divisor of a rank's sequences whose step is estimated to fit; None when not even one sequence is."""
    each = batch_sizes(config).first // world_size
    fitting = [
        size for size in divisors(each)
        if sum(memory_by_part(config, model, world_size, size).values()) <= USABLE * gpu_bytes
    ]  # fmt: skip
    return fitting[-1] if fitting else None


def divisors(number: int) -> list[int]:
    """In ascending order."""
    return [size for size in range(1, number + 1) if number % size == 0]
