"""From the configuration to Composer's objects: one plain function each."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from composer import Callback, Evaluator, Trainer
from composer.callbacks import LRMonitor, MemoryMonitor, RuntimeEstimator, SpeedMonitor
from composer.core import DataSpec
from composer.loggers import LoggerDestination
from composer.optim import ComposerScheduler, ConstantWithWarmupScheduler, CosineAnnealingWithWarmupScheduler
from composer.utils import dist, get_device
from torch.nn import Parameter

from eval.callback import ScoreCheckpoints
from model.composer_gpt import ComposerGPT, stack, token_count, widen
from model.config import GPTConfig
from model.gpt import GPT
from recipes import parallel, schema
from recipes.callbacks.clip_grad_norm import ClipGradNorm
from recipes.callbacks.console import Console
from recipes.callbacks.guard import Guard
from recipes.callbacks.loader_wait import LoaderWait
from recipes.callbacks.metrics_log import MetricsLog
from recipes.callbacks.save_checkpoints import SaveCheckpoints
from recipes.callbacks.scheduled_gc import ScheduledGC
from recipes.callbacks.step_time import StepTime
from recipes.callbacks.watchdog import Watchdog
from recipes.kernels import compile_model, use_float8
from recipes.microbatch import set_microbatch
from recipes.packed_sequences import PackedSequences
from recipes.schedules import WarmupStableDecay
from recipes.schema import Training
from recipes.shard_cache import number_segments_apart
from recipes.shard_fetch import WholeShards, fetch_indexes
from recipes.times import batch_sizes, in_unit_of_run, parse_time
from recipes.together import together
from recipes.trackers import build_trackers
from recipes.train_loader import TrainLoader
from recipes.validation import ReshardAfterValidation


def build_model(config: Training, shape: GPTConfig, end_of_text: int | None = None) -> ComposerGPT:
    """The model of a single rank on its device; else on the CPU, or on meta to be filled in after sharding.

    ``end_of_text`` is for document_mask.
    """
    ends = end_of_text if config.model.document_mask else None
    sharded = parallel.is_sharded()
    device = config.model.init_device if sharded else get_device(None).name
    gpt = GPT(shape, "cuda" if device == "gpu" else device, config.model.z_loss, ends)
    if config.float8 is not None:
        use_float8(gpt, config.float8)
    model = ComposerGPT(gpt, config.seed)
    if not sharded:
        parallel.leave_whole(model)
    parallel.recompute_every(model, config.fsdp_config.activation_checkpointing_interval)
    return model


def build_train_data(config: Training, vocab_size: int) -> DataSpec:
    """The packed sequences, streamed and shuffled, as batches of this rank; their ids are below ``vocab_size``."""
    loader = config.train_loader
    sizes = batch_sizes(config)
    batch_size = sizes.first // dist.get_world_size()
    to_the_full = sizes.full // sizes.first  # so many of the first batches are one of the last
    settings = loader.dataset.model_dump(exclude={"streams", "remote", "local", "split"})
    streams = [WholeShards(**stream.model_dump()) for stream in loader.dataset.by_key().values()]
    together(lambda: fetch_indexes(streams) if dist.get_local_rank() == 0 else None)
    settings["predownload"] = loader.dataset.predownload or 8 * to_the_full * batch_size  # as Streaming: 8 batches
    number_segments_apart()
    dataset = PackedSequences(vocab_size, streams=streams, batch_size=batch_size, **settings)
    workers: dict[str, Any] = {}
    if loader.num_workers > 0:
        workers = {
            "prefetch_factor": loader.prefetch_factor * to_the_full,
            "persistent_workers": loader.persistent_workers,
        }
    dataloader = TrainLoader(
        sizes,
        dataset.epoch_size,
        dataset,
        batch_size=batch_size,
        collate_fn=stack,
        drop_last=loader.drop_last,
        num_workers=loader.num_workers,
        **workers,
    )
    pin = loader.pin_memory and torch.cuda.is_available()
    return DataSpec(
        dataloader=dataloader, batch_transforms=partial(widen, pin=pin), get_num_tokens_in_batch=token_count
    )


def build_optimizer(config: schema.DecoupledAdamW, model: torch.nn.Module) -> torch.optim.AdamW:
    """Composer's DecoupledAdamW as torch's fused AdamW.

    Composer decays by ``weight_decay * lr / initial_lr`` a step, AdamW by ``weight_decay * lr``: equal when AdamW is
    given ``weight_decay / initial_lr``. Composer's is a Python loop with a host sync for each parameter.
    """
    parameters: Any = model.parameters()
    if config.no_weight_decay:
        decaying, excluded = split_by_decay(model, set(config.no_weight_decay))
        parameters = [{"params": decaying}, {"params": excluded, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        parameters,
        lr=config.lr,
        betas=(config.betas[0], config.betas[1]),
        eps=config.eps,
        weight_decay=config.weight_decay / config.lr,
        fused=True,
    )


def split_by_decay(model: torch.nn.Module, kinds: set[str]) -> tuple[list[Parameter], list[Parameter]]:
    """The parameters that decay, and those of the excluded ``kinds``. A tied one is of its first module's kind."""
    decaying: list[Parameter] = []
    excluded: list[Parameter] = []
    seen: set[Parameter] = set()
    for module in model.modules():
        for leaf, parameter in module.named_parameters(recurse=False):
            if parameter in seen:
                continue
            seen.add(parameter)
            is_of_kind = {
                "embeddings": isinstance(module, torch.nn.Embedding),
                "norms": isinstance(module, torch.nn.LayerNorm),
                "biases": leaf == "bias",
            }
            (excluded if any(is_of_kind[kind] for kind in kinds) else decaying).append(parameter)
    return decaying, excluded


def build_scheduler(config: Training) -> ComposerScheduler:
    """The schedule, with all its times in the unit of the run: Composer's schedulers compare one unit alone."""
    scheduler = config.scheduler
    arguments = {
        key: in_unit_of_run(value, config) if key.startswith("t_") else value
        for key, value in scheduler
        if key != "name"
    }
    kinds = {
        "cosine_with_warmup": CosineAnnealingWithWarmupScheduler,
        "constant_with_warmup": ConstantWithWarmupScheduler,
        "warmup_stable_decay": WarmupStableDecay,
    }
    return kinds[scheduler.name](**arguments)


def build_callbacks(
    config: Training,
    tokenizer: Path,
    checkpoints: SaveCheckpoints | None = None,
    resumed: dict[str, Any] | None = None,
) -> list[Callback]:
    """What the configuration asks for: clipping and its guard first, checkpoints last, so that one has all in it.

    Args:
        config: the run's.
        tokenizer: a local folder.
        checkpoints: what writes them, if anything does.
        resumed: the manifest of the checkpoint that the run goes on from.
    """
    wanted = config.callbacks
    callbacks: list[Callback] = []
    if config.algorithms.gradient_clipping is not None:
        callbacks.append(clip := ClipGradNorm(config.algorithms.gradient_clipping.clipping_threshold))
        if wanted.guard is not None:
            callbacks.append(guard := Guard(wanted.guard, clip, checkpoints))
            if resumed is not None and "guard" in resumed:
                guard.go_on(resumed["guard"])
    if wanted.speed_monitor is not None:
        callbacks.append(SpeedMonitor(**wanted.speed_monitor.model_dump()))
    if wanted.lr_monitor is not None:
        callbacks.append(LRMonitor(**wanted.lr_monitor.model_dump()))
    if wanted.memory_monitor is not None:
        callbacks.append(MemoryMonitor(**wanted.memory_monitor.model_dump()))
    if wanted.runtime_estimator is not None:
        callbacks.append(RuntimeEstimator(**wanted.runtime_estimator.model_dump()))
    if wanted.loader_wait is not None:
        callbacks.append(LoaderWait(**wanted.loader_wait.model_dump()))
    if wanted.step_time is not None:
        callbacks.append(StepTime(**wanted.step_time.model_dump()))
    if wanted.scheduled_gc is not None:
        callbacks.append(ScheduledGC(**wanted.scheduled_gc.model_dump()))
    if config.eval_loader is not None:
        callbacks.append(ReshardAfterValidation())
    if wanted.watchdog is not None:
        seconds = wanted.watchdog.seconds or 0.8 * config.dist_timeout
        callbacks.append(Watchdog(seconds, Path(config.run_folder) / "stacks"))
    if wanted.score_checkpoints is not None:
        callbacks.append(
            ScoreCheckpoints(
                tokenizer=str(tokenizer), max_seq_len=config.max_seq_len, **wanted.score_checkpoints.model_dump()
            )
        )
    if checkpoints is not None:
        callbacks.append(checkpoints)
    return callbacks


def build_checkpoints(
    config: Training, shape: GPTConfig, tokenizer: Path, trained_with: dict[str, Any], run_id: str
) -> SaveCheckpoints | None:
    """What writes them, or None without a ``save_folder``.

    ``trained_with`` (recipes.same_run) and ``run_id`` go into the manifests, for whoever goes on from them.
    """
    if config.save_folder is None:
        return None
    return SaveCheckpoints(
        folder=config.save_folder,
        interval=config.save_interval,
        staging=Path(config.run_folder) / "staging",
        about={"run_id": run_id, "model": shape.to_dict(), "trained_with": trained_with},
        tokenizer=tokenizer,
        keep=config.save_num_checkpoints_to_keep,
        keep_every=parse_time(config.save_keep_every)[0] if config.save_keep_every is not None else None,
        timeout=config.dist_timeout / 2,  # rank 0 must speak before the others stop waiting for it
    )


def build_trainer(
    config: Training,
    model: ComposerGPT,
    train_data: DataSpec,
    callbacks: list[Callback],
    loggers: list[LoggerDestination],
    evaluator: Evaluator | None = None,
    load_path: Path | None = None,
) -> Trainer:
    """The Trainer over a model that it has sharded, and compiled where that is asked for."""
    size = config.device_train_microbatch_size
    with parallel.deprecation_unshown():
        trainer = Trainer(
            run_name=config.run_name,
            seed=config.seed,
            model=model,
            train_dataloader=train_data,
            eval_dataloader=evaluator,
            optimizers=build_optimizer(config.optimizer, model),
            schedulers=build_scheduler(config),
            max_duration=config.max_duration,
            precision=config.precision,
            device_train_microbatch_size=1 if size == "auto" else size,
            parallelism_config=parallel.build_parallelism(config.fsdp_config),
            callbacks=callbacks,
            loggers=loggers,
            progress_bar=False,
            log_to_console=False,
            dist_timeout=config.dist_timeout,
            load_path=str(load_path) if load_path else None,
            load_strict_model_weights=True,
        )
    parallel.average_gradients(model)
    if config.compile_config is not None:
        compile_model(model, config.compile_config)
    if size == "auto":
        set_microbatch(trainer, config, model.config)
    return trainer


def build_loggers(config: Training, total_batches: int | None, run_id: str, goes_on: bool) -> list[LoggerDestination]:
    """Our two, and the trackers."""
    return [
        MetricsLog(Path(config.run_folder) / "metrics.jsonl"),
        Console(total_batches, parse_time(config.console_log_interval)[0], config.progress_bar),
        *build_trackers(config, run_id, goes_on),
    ]
