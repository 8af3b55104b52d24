"""What no section of the training configuration can know alone. Imports nothing heavy."""

import os
from collections.abc import Callable, Iterable
from typing import Any

from recipes.memory import divisors
from recipes.schema import DATASET, WEIGHTS, CosineWithWarmup, Training, WarmupStableDecay
from recipes.times import batch_sizes, duration_in_batches, parse_fraction, parse_time, part_of_run

Faults = Iterable[tuple[str, str]]  # (key, what is wrong)


def schedule_faults(config: Training, samples_per_epoch: int | None) -> Faults:
    """What of the schedule does not fit into the run, as far as is known without or with the size of the dataset."""
    scheduler = config.scheduler
    warmup = part_of_run(scheduler.t_warmup, config, samples_per_epoch)
    if warmup is not None and warmup >= 1:
        yield "scheduler.t_warmup", f"{scheduler.t_warmup} is not shorter than max_duration {config.max_duration}"
    if isinstance(scheduler, WarmupStableDecay):
        decay = part_of_run(scheduler.t_decay, config, samples_per_epoch)
        if decay == 0:
            yield "scheduler.t_decay", "must be longer than 0; constant_with_warmup is the schedule without a decay"
        if warmup is not None and decay is not None and warmup < 1 < warmup + decay - 1e-9:
            yield (
                "scheduler.t_decay",
                f"{scheduler.t_decay} and t_warmup {scheduler.t_warmup} are longer than max_duration "
                f"{config.max_duration}",
            )
    if isinstance(scheduler, CosineWithWarmup):
        whole = part_of_run(scheduler.t_max, config, samples_per_epoch)
        if whole is not None and whole < 1:
            yield "scheduler.t_max", f"{scheduler.t_max} is shorter than max_duration {config.max_duration}"


def _heads_divide_width(c: Training) -> Faults:
    if c.model.d_model % c.model.n_heads:
        dividing = min(divisors(c.model.d_model), key=lambda number: abs(number - c.model.n_heads))
        yield "model.n_heads", f"{c.model.n_heads} heads do not divide d_model {c.model.d_model}; {dividing} do"


def _schedule_fits_into_the_run(c: Training) -> Faults:
    yield from schedule_faults(c, samples_per_epoch=None)


def _sharding_is_whole(c: Training) -> Faults:
    fsdp = c.fsdp_config
    if (fsdp.sharding_strategy == "HYBRID_SHARD") != (fsdp.data_parallel_shard_degree is not None):
        yield (
            "fsdp_config.data_parallel_shard_degree",
            "HYBRID_SHARD needs it, the number of ranks that share one copy of the model; the others do not take it",
        )
    if fsdp.mixed_precision == "PURE" and c.precision == "fp32":
        yield "fsdp_config.mixed_precision", "PURE reduces gradients in bf16, and precision is fp32: leave it out"
    if fsdp.activation_checkpointing_interval > 1 and not fsdp.activation_checkpointing:
        yield "fsdp_config.activation_checkpointing_interval", "says nothing while activation_checkpointing is off"
    if fsdp.activation_checkpointing_interval > c.model.n_layers:
        yield "fsdp_config.activation_checkpointing_interval", f"there are {c.model.n_layers} blocks"


def _documents_have_a_kernel(c: Training) -> Faults:
    if not c.model.document_mask:
        return
    if c.model.attn_pdrop > 0:
        yield (
            "model.document_mask",
            f"FlexAttention knows no dropout, and model.attn_pdrop is {c.model.attn_pdrop}; set it to 0",
        )
    if c.precision != "fp32" and c.compile_config is None:
        yield "model.document_mask", "FlexAttention is fast only when it is compiled; set compile_config={}"


def _float8_has_its_conditions(c: Training) -> Faults:
    if c.float8 is None:
        return
    if c.precision != "amp_bf16":
        yield "float8", f"goes with precision amp_bf16, which is {c.precision}"
    if c.compile_config is None:
        yield "float8", "its casts are fast only when they are compiled; set compile_config={}"
    if c.model.d_model % 16:
        yield "float8", f"the kernels take multiples of 16, and model.d_model is {c.model.d_model}"
    sequences = 1 if c.device_train_microbatch_size == "auto" else c.device_train_microbatch_size
    if sequences * c.max_seq_len % 16:
        tokens = f"{sequences} x {c.max_seq_len}"
        yield "float8", f"the kernels take multiples of 16, and a microbatch has {tokens} tokens"
    if c.hardware is not None and c.hardware.gpu.startswith("a100"):
        yield "float8", f"hardware.gpu {c.hardware.gpu} has no FP8; set float8=null"


def _batch_grows_to_its_size(c: Training) -> Faults:
    if c.batch_size_warmup is None:
        return
    key, sizes = "batch_size_warmup.double_at", batch_sizes(c)
    if sizes.full % 2 ** len(sizes.double_at):
        yield key, f"{len(sizes.double_at)} doublings do not lead to global_train_batch_size {sizes.full}"
        return
    if sorted(set(sizes.double_at)) != list(sizes.double_at):
        yield key, "must ascend, each later than the one before"
        return
    batches = duration_in_batches(c.max_duration, c, None)
    if batches is not None and sizes.at(sizes.samples(batches - 1)) < sizes.full:
        yield key, f"the batch is not full before the end, max_duration {c.max_duration}"
    if not c.train_loader.drop_last:
        yield "train_loader.drop_last", "must be true with batch_size_warmup, which counts whole batches"


def _growing_batches_are_no_unit(c: Training) -> Faults:
    """Composer reckons an epoch as a number of batches, and what lies in a batch is not the same all along."""
    if c.batch_size_warmup is None:
        return
    unit = parse_time(c.max_duration)[1]
    if unit == "ep":
        yield "max_duration", "must be in tok, sp or ba with batch_size_warmup: its epochs differ in their batches"
        return
    for key, time in c.scheduler:
        if key.startswith("t_") and parse_fraction(time) is None:
            units = {unit, parse_time(time)[1]}
            if "ba" in units and len(units) > 1:
                yield (
                    f"scheduler.{key}",
                    f"{time} cannot be compared with max_duration {c.max_duration} while the batch grows "
                    "(batch_size_warmup); give both in tok or sp, or both in ba",
                )


def _microbatch_fits(c: Training) -> Faults:
    size, sizes = c.device_train_microbatch_size, batch_sizes(c)
    if size == "auto":
        return
    if sizes.full % size:
        yield "device_train_microbatch_size", f"{size} does not divide global_train_batch_size {sizes.full}"
    elif sizes.full % 2 ** len(sizes.double_at) == 0 and sizes.first % size:
        yield "device_train_microbatch_size", f"{size} does not divide the first batch of {sizes.first} sequences"


def _data_has_one_place(c: Training) -> Faults:
    dataset = c.train_loader.dataset
    if dataset.streams is None:
        if dataset.local is None:
            yield f"{DATASET}.local", "is missing; give the folder on each node, or `streams`"
        return
    for name in ("remote", "local"):
        if getattr(dataset, name) is not None:
            yield f"{DATASET}.{name}", "each of the `streams` has its own; leave it out here"
    places: dict[tuple[str, str], str] = {}
    for key, stream in dataset.by_key().items():
        place = (os.path.abspath(stream.local), stream.split or "")
        if place in places:
            yield f"{key}.local", f"is that of {places[place]}; give each stream its own folder"
        places.setdefault(place, key)


def _streams_are_weighed_alike(c: Training) -> Faults:
    dataset = c.train_loader.dataset
    weights = {
        key: {name for name in WEIGHTS if getattr(stream, name) is not None} for key, stream in dataset.by_key().items()
    }
    for key, names in weights.items():
        if len(names) > 1:
            yield key, f"takes one of proportion, repeat and choose; it has {', '.join(sorted(names))}"
    relative = [key for key, names in weights.items() if "proportion" in names]
    for key in [key for key in weights if relative and key not in relative]:
        yield key, f"needs a proportion, as {relative[0]} has one"
    if dataset.epoch_size is not None and any(names - {"proportion"} for names in weights.values()):
        yield f"{DATASET}.epoch_size", "follows from repeat and choose of the streams; leave it out, or use proportions"


def _cache_has_a_source(c: Training) -> Faults:
    dataset = c.train_loader.dataset
    only_copies = [key for key, stream in dataset.by_key().items() if stream.remote is None]
    if dataset.cache_limit is not None and only_copies:
        # streaming issue 988: eviction takes any shard, and would delete the only copy
        yield f"{DATASET}.cache_limit", f"no `remote`, so no other copy: {', '.join(only_copies)}; leave out the limit"


def _resume_has_a_place(c: Training) -> Faults:
    if c.autoresume and c.save_folder is None:
        yield "autoresume", "needs save_folder: there is nowhere to resume from"


def _guard_has_its_conditions(c: Training) -> Faults:
    guard = c.callbacks.guard
    if guard is not None and c.algorithms.gradient_clipping is None:
        yield "callbacks.guard", "needs algorithms.gradient_clipping, which computes the norm; .inf clips nothing"
    policies = guard.model_dump(include={"not_finite", "loss_spike", "gradient_spike"}) if guard is not None else {}
    for name, policy in policies.items():
        if policy == "roll_back" and not c.autoresume:
            yield f"callbacks.guard.{name}", "roll_back goes on from a checkpoint: it needs save_folder and autoresume"
    kept = c.save_num_checkpoints_to_keep
    if guard is not None and "roll_back" in policies.values() and 0 < kept < guard.saves_back:
        yield "callbacks.guard.saves_back", f"{guard.saves_back}, and save_num_checkpoints_to_keep keeps {kept}"


def _hangs_are_told_of(c: Training) -> Faults:
    watchdog = c.callbacks.watchdog
    seconds = watchdog.seconds if watchdog is not None else None
    if seconds is not None and not c.dist_timeout / 2 < seconds < c.dist_timeout:
        yield (
            "callbacks.watchdog.seconds",
            f"{seconds:g} must lie between half of dist_timeout {c.dist_timeout} (an upload may take so long) "
            "and the whole, at which torch ends the run without a word on where it hangs",
        )


def _old_checkpoints_go(c: Training) -> Faults:
    if c.save_keep_every is not None and c.save_num_checkpoints_to_keep == -1:
        yield "save_keep_every", "says nothing while save_num_checkpoints_to_keep is -1, which keeps all"


def _load_path_is_another_run(c: Training) -> Faults:
    if (
        c.load_path is not None
        and c.save_folder is not None
        and c.load_path.startswith(c.save_folder.rstrip("/") + "/")
    ):
        yield "load_path", f"lies in save_folder {c.save_folder}; choose another run_name or folder for the new run"
    if not c.load_dataset_state and c.load_path is None:
        yield "load_dataset_state", "false is for a load_path, and there is none"
    if not c.load_dataset_state:
        times = {"max_duration": c.max_duration}
        times |= {f"scheduler.{key}": time for key, time in c.scheduler if key.startswith("t_")}
        for key, time in times.items():
            if time.endswith("ep"):
                yield key, f"{time}: with load_dataset_state=false epochs are not the checkpoint's; give tok, sp or ba"


def _time_units_fit(c: Training) -> Faults:
    if parse_time(c.max_duration)[1] == "sec":
        yield "max_duration", "must be in ba, tok, sp or ep"
    if parse_time(c.eval_interval)[1] == "sec":
        yield "eval_interval", "must be in ba, tok, sp or ep"
    if parse_time(c.console_log_interval)[1] != "ba":
        yield "console_log_interval", "must be in ba"
    for key, time in c.scheduler:
        if key.startswith("t_") and time.endswith("ep") and not c.max_duration.endswith(("ep", "ba")):
            yield (
                f"scheduler.{key}",
                f"{time} cannot be compared with max_duration {c.max_duration}; give both in ep or ba",
            )
    scores = c.callbacks.score_checkpoints
    if scores is not None and parse_time(scores.interval)[1] == "sec":
        yield "callbacks.score_checkpoints.interval", "must be in ba, tok, sp or ep"


CROSS_CHECKS: list[Callable[[Any], Faults]] = [
    _heads_divide_width,
    _schedule_fits_into_the_run,
    _sharding_is_whole,
    _documents_have_a_kernel,
    _float8_has_its_conditions,
    _batch_grows_to_its_size,
    _growing_batches_are_no_unit,
    _microbatch_fits,
    _data_has_one_place,
    _streams_are_weighed_alike,
    _cache_has_a_source,
    _resume_has_a_place,
    _guard_has_its_conditions,
    _hangs_are_told_of,
    _old_checkpoints_go,
    _load_path_is_another_run,
    _time_units_fit,
]
