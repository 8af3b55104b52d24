"""The run on one page before it is billed: size, tokens, FLOPs, memory, duration, cost, data, checkpoints."""

from dataclasses import dataclass

from base.masking import without_secrets
from base.progress import count, duration
from model.config import GPTConfig
from recipes.findings import Findings
from recipes.memory import GIB, USABLE, largest_microbatch, memory_by_part
from recipes.schema import DATASET, WEIGHTS, Hardware, Training
from recipes.this_machine import STATE_BYTES
from recipes.times import batch_sizes, parse_time, part_of_run, warmup_in_batches


@dataclass(frozen=True)
class GPU:
    """What is known about a GPU; ``mfu`` is what the 2.7B model's shape has reached on it, and ``source`` whose.

    All of them are in bf16, without recomputation.
    """

    memory_gib: float
    bf16_flops: float
    mfu: float
    source: str


MEASURED = "the rate is the 2.7B model's, in bf16 and without recomputation"
LLM_FOUNDRY = "llm-foundry's table, MPT-3B, length 1024, 8 GPUs; not measured by us"
OURS = "our Trainer on one GPU, microbatches of 24, benchmarks/records/gpu-2026-11-27-3.json"
GPUS = {
    "a100_40gb": GPU(40, 312e12, 0.581, LLM_FOUNDRY),
    "a100_80gb": GPU(80, 312e12, 0.627, LLM_FOUNDRY),
    "h100_80gb": GPU(80, 989e12, 0.462, LLM_FOUNDRY),
    "h200_141gb": GPU(139.8, 989e12, 0.555, OURS),
}


def run_sheet(config: Training, found: Findings, world_size: int) -> str:
    """The text that ``--check`` prints. What could not be found out is left out of it and stands in the faults."""
    lines = [f"run sheet: {config.run_name}", ""]
    if found.model is not None:
        lines += _model(found.model)
        lines += _tokens(config, found)
        lines += _memory(config, found.model, world_size)
        lines += _time_and_cost(config, found)
    lines += _data_and_checkpoints(config, found)
    if found.missing:
        lines += ["", "not there yet, or not to be seen from here: training would stop at it"]
        lines += [f"  {missing}" for missing in found.missing]
    if found.warnings:
        lines += ["", "warnings", *(f"  {warning}" for warning in found.warnings)]
    return without_secrets("\n".join(lines) + "\n")


def _row(name: str, value: str) -> str:
    return f"  {name:<28}{value}"


def _model(model: GPTConfig) -> list[str]:
    parts = [_row(name, f"{number:>15,}") for name, number in model.parameters_by_part().items()]
    shape = f"{model.n_layers} layers x {model.d_model}, {model.n_heads} heads, {model.max_seq_len} positions"
    return ["parameters", *parts, _row("total", f"{model.n_parameters:>15,}"), _row("shape", shape), ""]


def _tokens(config: Training, found: Findings) -> list[str]:
    assert found.model is not None
    lines = ["training"]
    for samples, batches, size in batch_sizes(config).stages():
        begin = f" after batch {batches:,} ({samples * config.max_seq_len:,} tokens)" if batches else ""
        lines.append(_row("tokens a batch", f"{size * config.max_seq_len:,}{begin}"))
    if found.batches is not None:
        tokens = (found.sequences or 0) * config.max_seq_len
        lines.append(_row("batches", f"{found.batches:,}"))
        lines.append(_row("tokens", f"{tokens:,}"))
        if found.samples:
            before, since = (0, "") if config.load_dataset_state else (found.trained, " from the checkpoint on")
            lines.append(_row("epochs", f"{((found.sequences or 0) - before) / found.samples:.2f}{since}"))
        if found.resume_from is not None:
            lines.append(_row("done already", f"{found.done:.1%}, to batch {found.resume_from.batch:,}"))
        lines.append(_row("learning rate", _learning_rate(config, found)))
        flops = f"{found.model.flops_per_token() / 1e9:.3f} GFLOP a token, {tokens * found.model.flops_per_token():.3g}"
        lines.append(_row("work", f"{flops} in all (6 x matmul parameters + 12 x layers x width x length)"))
    return [*lines, ""]


def _learning_rate(config: Training, found: Findings) -> str:
    scheduler = config.scheduler
    part, batches = part_of_run(scheduler.t_warmup, config, found.samples), warmup_in_batches(config, found.samples)
    told = f"{config.optimizer.lr:g}, {scheduler.name}"
    if part is None or batches is None:
        return told
    return f"{told}: {batches:,.0f} batches of warmup, {part:.2%} of the run"


def _memory(config: Training, model: GPTConfig, world_size: int) -> list[str]:
    there = GPUS[config.hardware.gpu].memory_gib if config.hardware is not None else None
    size = config.device_train_microbatch_size
    how = f"microbatch {size}"
    if size == "auto":
        size = largest_microbatch(config, model, world_size, there * GIB) or 1 if there is not None else 1
        how = (
            f"microbatch {size}, the largest that fits by this"
            if there is not None
            else "microbatch 1; hardware is not set"
        )
    parts = memory_by_part(config, model, world_size, size)
    whose = f"of each of {world_size} ranks" if world_size > 1 else "of the one rank, which is not sharded"
    lines = [f"memory {whose}, estimated ({how})"]
    lines += [_row(name, f"{bytes_ / GIB:>8.2f} GiB") for name, bytes_ in parts.items()]
    total = sum(parts.values())
    room = ""
    if there is not None:
        fits = "fits" if total <= USABLE * there * GIB else "DOES NOT FIT: a smaller microbatch, or more ranks"
        room = f" of {there:.0f} GiB: {fits}"
    return [*lines, _row("total", f"{total / GIB:>8.2f} GiB{room}"), ""]


def _time_and_cost(config: Training, found: Findings) -> list[str]:
    if config.hardware is None or found.sequences is None or found.model is None:
        return []
    hardware: Hardware = config.hardware
    gpu = GPUS[hardware.gpu]
    rate = gpu.mfu * gpu.bf16_flops / found.model.flops_per_token()
    seconds = (found.sequences - found.trained) * config.max_seq_len / (rate * hardware.count)
    hours = seconds / 3600 * hardware.count
    unlike = _unlike_the_measured(config, found.model)
    lines = [
        f"expected on {hardware.count} x {hardware.gpu} (at the {gpu.mfu:.1%} MFU of {gpu.source})",
        *([_row("NOT TO BE EXPECTED", f"{MEASURED}; here: {', '.join(unlike)}")] if unlike else []),
        _row("tokens a second", f"{count(rate)} a GPU, {count(rate * hardware.count)} in all"),
        _row("duration" if found.trained == 0 else "duration of the rest", duration(seconds)),
        _row("GPU hours", f"{hours:,.0f}"),
    ]
    if hardware.usd_per_gpu_hour is not None:
        cost = f"{hours * hardware.usd_per_gpu_hour:,.0f} USD at {hardware.usd_per_gpu_hour:.2f} a GPU hour"
        lines.append(_row("cost", cost))
    return [*lines, ""]


def _unlike_the_measured(config: Training, model: GPTConfig) -> list[str]:
    """What of the run is known to make its speed another than the one that was measured."""
    unlike = []
    if not 0.5 <= model.n_parameters / GPTConfig().n_parameters <= 2:
        unlike.append(f"{model.n_parameters:,} parameters")
    if config.fsdp_config.activation_checkpointing:
        unlike.append("activation_checkpointing")
    if config.float8 is not None:
        unlike.append("float8")
    if config.precision != "amp_bf16":
        unlike.append(f"precision {config.precision}")
    return unlike


def _data_and_checkpoints(config: Training, found: Findings) -> list[str]:
    lines = ["found", *_data(config, found)]
    tokenizer = f"{found.entries:,} entries" if found.tokenizer_sha256 else "not there"
    lines.append(_row("tokenizer", f"{config.tokenizer.name}: {tokenizer}"))
    if config.save_folder is not None:
        begin = f"goes on from {found.resume_from.location}" if found.resume_from else "begins at batch 0"
        whole = sum(checkpoint.whole for checkpoint in found.checkpoints)
        lines.append(_row("checkpoints", f"{config.save_folder}: {whole} whole; {begin}"))
        if found.model is not None:
            lines += _saving(config, found.model)
    return lines


def _saving(config: Training, model: GPTConfig) -> list[str]:
    size, keep = STATE_BYTES * model.n_parameters / 1e9, config.save_num_checkpoints_to_keep
    kept = "all are kept" if keep < 0 else f"the newest {keep} are kept, {keep * size:.3g} GB"
    if config.save_keep_every is not None:
        every = parse_time(config.save_keep_every)[0]
        kept += f", and one every {count(every)} tokens"
    within = config.dist_timeout / 2
    return [
        _row("a checkpoint", f"{size:.3g} GB every {config.save_interval}; {kept}"),
        _row("its upload", f"within {within:.0f} s, half of dist_timeout: {1e3 * size / within:.3g} MB/s in all"),
    ]


def _data(config: Training, found: Findings) -> list[str]:
    """Each stream and what an epoch takes of it; the held-out sequences."""
    rows = []
    for key, stream in config.train_loader.dataset.by_key().items():
        shards = found.shards.get(key)
        there = f"{shards.samples:,} sequences of {config.max_seq_len}" if shards else "not there"
        name = "data" if key == DATASET else f"data, {key.rsplit('.', 1)[1]}"
        weights = [f"{how} {value:g}" for how in WEIGHTS if (value := getattr(stream, how)) is not None]
        rows.append(_row(name, ", ".join([f"{stream.remote or stream.local}: {there}", *weights])))
        if shards and shards.ids_seen:
            rows.append(_row("  ids looked at", shards.ids_seen))
    if config.train_loader.dataset.streams is not None and found.samples is not None:
        rows.append(_row("an epoch", f"{found.samples:,} sequences"))
    if config.eval_loader is not None:
        shards = found.shards.get("eval_loader.dataset")
        there = f"{shards.samples:,} sequences, every {config.eval_interval}" if shards else "not there"
        held_out = config.eval_loader.dataset
        rows.append(_row("validation", f"{held_out.remote or held_out.local}: {there}"))
        if shards and shards.ids_seen:
            rows.append(_row("  ids looked at", shards.ids_seen))
    return rows
