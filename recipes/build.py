"""From the configuration to Composer's objects: one plain function each."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from composer import Callback
from composer.callbacks import LRMonitor, MemoryMonitor, RuntimeEstimator, SpeedMonitor
from composer.core import DataSpec
from composer.loggers import LoggerDestination, MLFlowLogger, TensorboardLogger, WandBLogger
from composer.optim import ComposerScheduler, CosineAnnealingWithWarmupScheduler
from composer.utils import dist
from streaming import Stream, StreamingDataset

from eval.callback import ScoreCheckpoints
from model.composer_gpt import collate, token_count
from model.config import GPTConfig
from recipes import schema
from recipes.callbacks.clip_grad_norm import ClipGradNorm
from recipes.callbacks.console import Console
from recipes.callbacks.loader_wait import LoaderWait, TimedLoader
from recipes.callbacks.metrics_log import MetricsLog
from recipes.callbacks.save_checkpoints import SaveCheckpoints
from recipes.callbacks.scheduled_gc import ScheduledGC
from recipes.callbacks.step_time import StepTime
from recipes.schema import Training, parse_time
from recipes.shard_cache import alone_on_this_machine
from recipes.together import together
from recipes.validation import ReshardAfterValidation, ValidatedGPT


def build_model(config: Training, shape: GPTConfig) -> ValidatedGPT:
    """The model on the CPU, or on the meta device to be filled in after sharding."""
    return ValidatedGPT(shape, seed=config.seed, init_device=config.model.init_device)


def build_train_data(config: Training) -> DataSpec:
    """The packed sequences, streamed and shuffled, as batches of this rank."""
    loader = config.train_loader
    batch_size = config.global_train_batch_size // dist.get_world_size()
    settings = loader.dataset.model_dump(exclude={"streams"})
    if loader.dataset.streams is not None:
        settings["streams"] = [Stream(**stream.model_dump()) for stream in loader.dataset.streams.values()]
    with ExitStack() as node:
        together(lambda: node.enter_context(alone_on_this_machine()) if dist.get_local_rank() == 0 else None)
        dataset = StreamingDataset(batch_size=batch_size, **settings)
    workers: dict[str, Any] = {}
    if loader.num_workers > 0:
        workers = {"prefetch_factor": loader.prefetch_factor, "persistent_workers": loader.persistent_workers}
    dataloader = TimedLoader(
        dataset,
        batch_size=batch_size,
        collate_fn=collate,
        drop_last=loader.drop_last,
        num_workers=loader.num_workers,
        pin_memory=loader.pin_memory and torch.cuda.is_available(),
        **workers,
    )
    return DataSpec(dataloader=dataloader, get_num_tokens_in_batch=token_count)


def build_optimizer(config: schema.DecoupledAdamW, model: torch.nn.Module) -> torch.optim.AdamW:
    """Composer's DecoupledAdamW as torch's fused AdamW.

    Composer decays by ``weight_decay * lr / initial_lr`` a step, AdamW by ``weight_decay * lr``: equal when AdamW is
    given ``weight_decay / initial_lr``. Composer's is a Python loop with a host sync for each parameter.
    """
    return torch.optim.AdamW(
        model.parameters(),
        lr=config.lr,
        betas=(config.betas[0], config.betas[1]),
        eps=config.eps,
        weight_decay=config.weight_decay / config.lr,
        fused=True,
    )


def build_scheduler(config: schema.CosineWithWarmup) -> ComposerScheduler:
    return CosineAnnealingWithWarmupScheduler(t_warmup=config.t_warmup, t_max=config.t_max, alpha_f=config.alpha_f)


def build_callbacks(config: Training, shape: GPTConfig, tokenizer: Path) -> list[Callback]:
    """Clipping first, checkpoints last: a checkpoint holds what the others have done to the state."""
    wanted = config.callbacks
    callbacks: list[Callback] = []
    if config.algorithms.gradient_clipping is not None:
        callbacks.append(ClipGradNorm(config.algorithms.gradient_clipping.clipping_threshold))
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
    if wanted.score_checkpoints is not None:
        callbacks.append(
            ScoreCheckpoints(
                tokenizer=str(tokenizer), max_seq_len=config.max_seq_len, **wanted.score_checkpoints.model_dump()
            )
        )
    if config.save_folder is not None:
        callbacks.append(
            SaveCheckpoints(
                folder=config.save_folder,
                interval=config.save_interval,
                staging=Path(config.run_folder) / "staging",
                model=shape,
                tokenizer=tokenizer,
                keep=config.save_num_checkpoints_to_keep,
                timeout=config.dist_timeout / 2,  # rank 0 must speak before the others stop waiting for it
            )
        )
    return callbacks


def build_loggers(config: Training, total_batches: int | None) -> list[LoggerDestination]:
    """Our two, and the trackers that are asked for."""
    loggers: list[LoggerDestination] = [
        MetricsLog(Path(config.run_folder) / "metrics.jsonl"),
        Console(total_batches, parse_time(config.console_log_interval)[0], config.progress_bar),
    ]
    if config.loggers.wandb is not None:
        loggers.append(WandBLogger(**config.loggers.wandb.model_dump()))
    if config.loggers.tensorboard is not None:
        loggers.append(TensorboardLogger(**config.loggers.tensorboard.model_dump()))
    if config.loggers.mlflow is not None:
        loggers.append(MLFlowLogger(**config.loggers.mlflow.model_dump()))
    return loggers
