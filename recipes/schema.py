"""The training configuration: each key, its type, its default. Imports nothing heavy.

Names are those that users of Composer and llm-foundry know; a key under a component is that constructor's argument.
"""

import os
import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from base.configuration import Schema, Section
from model.config import GPTConfig

DATASET = "train_loader.dataset"
WEIGHTS = ("proportion", "repeat", "choose")  # of a stream: one of them, or none
TIME_UNITS = ("ba", "tok", "sp", "ep", "sec")
Duration = tuple[int, str]


def parse_time(text: str) -> Duration:
    """``"100ba"`` → ``(100, "ba")``. Raises ValueError with the forms that are known."""
    match = re.fullmatch(rf"(\d[\d_]*)({'|'.join(TIME_UNITS)})", text)
    if not match:
        raise ValueError(f"must be a number and a unit, such as 100ba, 1ep, 300000000000tok or 1800sec; it is {text!r}")
    return int(match[1].replace("_", "")), match[2]


def _time(text: str) -> str:
    parse_time(text)
    return text


def _interval(text: str) -> str:
    if parse_time(text)[0] == 0:
        raise ValueError("must be at least 1")
    return text


def _not_none(number: int) -> int:
    if number == 0:
        raise ValueError("must be at least 1, or -1 for all")
    return number


Time = Annotated[str, AfterValidator(_time)]
Interval = Annotated[str, AfterValidator(_interval)]
Positive = Annotated[int, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, lt=1)]


class Model(Section):
    """The decoder; see model.config.GPTConfig for each value's source."""

    name: Literal["gpt"] = "gpt"
    vocab_size: Positive | None = None  # None: the tokenizer's
    d_model: Positive = GPTConfig.d_model
    n_heads: Positive = GPTConfig.n_heads
    n_layers: Positive = GPTConfig.n_layers
    expansion_ratio: Positive = GPTConfig.expansion_ratio
    attn_pdrop: Probability = GPTConfig.attn_pdrop
    resid_pdrop: Probability = GPTConfig.resid_pdrop
    embd_pdrop: Probability = GPTConfig.embd_pdrop
    layer_norm_epsilon: float = GPTConfig.layer_norm_epsilon
    initializer_range: float = GPTConfig.initializer_range
    scale_attn_by_inverse_layer_idx: bool = GPTConfig.scale_attn_by_inverse_layer_idx
    init_device: Literal["cpu", "meta"] = "cpu"


class Tokenizer(Section):
    """A folder, local or s3://, with tokenizer.json."""

    name: str


class Stream(Section):
    """Arguments of streaming.Stream: one of several corpora, and how much of it an epoch takes."""

    remote: str | None = None
    local: str
    split: str | None = None
    proportion: Annotated[float, Field(gt=0)] | None = None  # of all samples of an epoch; then each stream has one
    repeat: Annotated[float, Field(gt=0)] | None = None  # times its own samples
    choose: Positive | None = None  # samples


class Dataset(Section):
    """Arguments of streaming.StreamingDataset: either ``remote`` and ``local``, or ``streams`` by name."""

    remote: str | None = None
    local: str | None = None
    split: str | None = None
    streams: Annotated[dict[str, Stream], Field(min_length=1)] | None = None
    epoch_size: Positive | None = None  # samples; without it, as many as the streams have, or as they say
    shuffle: bool = False
    shuffle_algo: Literal["py1s", "py1e", "py1b", "py1br", "py2s", "naive"] = "py1e"
    shuffle_seed: int = 9176
    shuffle_block_size: Positive | None = None
    num_canonical_nodes: Positive = 1  # fixed, so that the order of samples does not depend on the number of ranks
    predownload: Positive | None = None
    cache_limit: int | str | None = None
    download_retry: int = 2
    download_timeout: float = 60

    def by_key(self) -> dict[str, Stream]:
        """Every stream, by the key that it stands under; without ``streams`` there is one."""
        if self.streams is None:
            return {DATASET: Stream(remote=self.remote, local=self.local or "", split=self.split)}
        return {
            f"{DATASET}.streams.{name}": stream.model_copy(update={"split": stream.split or self.split})
            for name, stream in self.streams.items()
        }


class Loader(Section):
    """Arguments of streaming.StreamingDataLoader around a packed MDS dataset."""

    name: Literal["text"] = "text"
    dataset: Dataset
    drop_last: bool = True
    num_workers: Annotated[int, Field(ge=0)] = 1
    prefetch_factor: Positive = 2
    pin_memory: bool = True
    persistent_workers: bool = True


class EvalDataset(Section):
    """Where the held-out sequences lie; they are read in their order, each once."""

    remote: str | None = None
    local: str
    split: str | None = None


class EvalLoader(Section):
    """Validation: arguments of torch's DataLoader around a packed MDS dataset, and the name in ``metrics/LABEL/…``."""

    name: Literal["text"] = "text"
    label: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")] = "eval"
    dataset: EvalDataset
    num_workers: Annotated[int, Field(ge=0)] = 0


class DecoupledAdamW(Section):
    """Composer's DecoupledAdamW, computed by torch's fused AdamW with weight_decay / lr (the same update)."""

    name: Literal["decoupled_adamw"]
    lr: Annotated[float, Field(gt=0)]
    betas: Annotated[list[Probability], Field(min_length=2, max_length=2)] = [0.9, 0.95]
    eps: float = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.0


class CosineWithWarmup(Section):
    """Composer's CosineAnnealingWithWarmupScheduler."""

    name: Literal["cosine_with_warmup"]
    t_warmup: Time
    t_max: Time | Literal["1dur"] = "1dur"
    alpha_f: Annotated[float, Field(ge=0, le=1)] = 0.1


class GradientClipping(Section):
    """Clipping by the global norm; the norm is logged."""

    clipping_type: Literal["norm"] = "norm"
    clipping_threshold: Annotated[float, Field(gt=0)] = 1.0


class Algorithms(Section):
    gradient_clipping: GradientClipping | None = None


class FSDP(Section):
    """FSDP2, under the names that users of FSDP1 in llm-foundry know."""

    sharding_strategy: Literal["FULL_SHARD", "SHARD_GRAD_OP"] = "FULL_SHARD"
    mixed_precision: Literal["DEFAULT", "PURE", "FULL"] = "DEFAULT"
    activation_checkpointing: bool = False
    activation_cpu_offload: bool = False


class SpeedMonitor(Section):
    window_size: Positive = 10
    gpu_flops_available: float | None = None


class LRMonitor(Section):
    """Takes no arguments."""


class MemoryMonitor(Section):
    memory_keys: dict[str, str] | None = None
    dist_aggregate_batch_interval: Positive | None = None


class RuntimeEstimator(Section):
    skip_batches: Annotated[int, Field(ge=0)] = 1
    time_unit: Literal["seconds", "minutes", "hours", "days"] = "hours"


class ScoreCheckpoints(Section):
    """Scores the model on question-answering files while it trains; see eval.callback."""

    tasks: Annotated[list[Literal["medqa", "medmcqa"]], Field(min_length=1)]
    data: str
    interval: Interval
    limit: Positive | None = None
    device_eval_batch_size: Positive = 16
    results_folder: str | None = None
    beginning_of_text: bool = False


class LoaderWait(Section):
    """How long each step waits for its batch; see recipes.callbacks.loader_wait."""

    batch_interval: Positive = 50


class StepTime(Section):
    """How long a step takes, and which rank the others wait for; see recipes.callbacks.step_time."""

    batch_interval: Positive = 50


class ScheduledGC(Section):
    """Garbage collection on all ranks at the same batch; see recipes.callbacks.scheduled_gc."""

    batch_interval: Positive = 1000


class Callbacks(Section):
    speed_monitor: SpeedMonitor | None = None
    lr_monitor: LRMonitor | None = None
    memory_monitor: MemoryMonitor | None = None
    runtime_estimator: RuntimeEstimator | None = None
    loader_wait: LoaderWait | None = None
    step_time: StepTime | None = None
    scheduled_gc: ScheduledGC | None = None
    score_checkpoints: ScoreCheckpoints | None = None


class WandB(Section):
    project: str
    entity: str | None = None
    group: str | None = None
    name: str | None = None
    tags: list[str] | None = None


class TensorBoard(Section):
    log_dir: str | None = None
    flush_interval: Positive = 100


class MLflow(Section):
    experiment_name: str
    tracking_uri: str | None = None


class Loggers(Section):
    wandb: WandB | None = None
    tensorboard: TensorBoard | None = None
    mlflow: MLflow | None = None


class Hardware(Section):
    """What the run will be billed for; used by ``--check`` alone."""

    gpu: Literal["a100_40gb", "a100_80gb", "h100_80gb", "h200_141gb"]
    count: Positive
    usd_per_gpu_hour: Annotated[float, Field(gt=0)] | None = None


class Training(Schema):
    """``composer train.py yamls/NAME.yaml``."""

    run_name: str
    seed: int = 17
    max_seq_len: Positive = 1024
    variables: dict[str, Any] = {}
    model: Model
    tokenizer: Tokenizer
    train_loader: Loader
    eval_loader: EvalLoader | None = None
    eval_interval: Interval = "1ep"
    eval_subset_num_batches: Annotated[int, Field(ge=-1), AfterValidator(_not_none)] = -1  # batches of each rank
    device_eval_batch_size: Positive = 8
    optimizer: DecoupledAdamW
    scheduler: CosineWithWarmup
    algorithms: Algorithms = Algorithms()
    max_duration: Interval
    global_train_batch_size: Positive
    device_train_microbatch_size: Positive
    precision: Literal["fp32", "amp_bf16"] = "amp_bf16"
    fsdp_config: FSDP = FSDP()
    dist_timeout: Positive = 600
    callbacks: Callbacks = Callbacks()
    loggers: Loggers = Loggers()
    progress_bar: bool = True
    console_log_interval: Interval = "1ba"
    run_folder: str  # local: the resolved configuration and the metrics of this run
    save_folder: str | None = None  # local or s3://: the checkpoints
    save_interval: Interval = "1000ba"
    save_num_checkpoints_to_keep: Annotated[int, Field(ge=-1), AfterValidator(_not_none)] = -1  # -1: all
    autoresume: bool = False
    hardware: Hardware | None = None

    @classmethod
    def cross_checks(cls) -> list[Callable[[Any], Iterable[tuple[str, str]]]]:
        return [_heads_divide_width, _warmup_ends_before_the_run, _microbatch_fits, _data_has_one_place,
                _streams_are_weighed_alike, _cache_has_a_source,
                _resume_has_a_place, _time_units_fit]  # fmt: skip

    def gpt_config(self, vocab_size: int) -> GPTConfig:
        """The shape, with the vocabulary size filled in."""
        values = self.model.model_dump(exclude={"name", "init_device", "vocab_size"})
        return GPTConfig(vocab_size=vocab_size, max_seq_len=self.max_seq_len, **values)

    @property
    def tokens_per_batch(self) -> int:
        return self.global_train_batch_size * self.max_seq_len


def duration_in_batches(time: str, config: Training, samples_per_epoch: int | None) -> int | None:
    """A time in batches; None when it needs the size of the dataset (``ep``) and that is not known, or for ``sec``."""
    value, unit = parse_time(time)
    if unit == "ba":
        return value
    if unit == "tok":
        return -(-value // config.tokens_per_batch)
    if unit == "sp":
        return -(-value // config.global_train_batch_size)
    if unit == "ep" and samples_per_epoch is not None:
        return value * (samples_per_epoch // config.global_train_batch_size)
    return None


Faults = Iterable[tuple[str, str]]


def _heads_divide_width(c: Training) -> Faults:
    if c.model.d_model % c.model.n_heads:
        yield "model.n_heads", f"{c.model.n_heads} heads do not divide d_model {c.model.d_model}"


def _warmup_ends_before_the_run(c: Training) -> Faults:
    (warmup, unit), (duration, whole_unit) = parse_time(c.scheduler.t_warmup), parse_time(c.max_duration)
    per_unit = {"ba": c.global_train_batch_size * c.max_seq_len, "tok": 1, "sp": c.max_seq_len}
    if unit in per_unit and whole_unit in per_unit and warmup * per_unit[unit] >= duration * per_unit[whole_unit]:
        yield "scheduler.t_warmup", f"{c.scheduler.t_warmup} is not shorter than max_duration {c.max_duration}"


def _microbatch_fits(c: Training) -> Faults:
    if c.global_train_batch_size % c.device_train_microbatch_size:
        yield (
            "device_train_microbatch_size",
            f"{c.device_train_microbatch_size} does not divide global_train_batch_size {c.global_train_batch_size}",
        )


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


def _time_units_fit(c: Training) -> Faults:
    if parse_time(c.max_duration)[1] == "sec":
        yield "max_duration", "must be in ba, tok, sp or ep"
    if parse_time(c.eval_interval)[1] == "sec":
        yield "eval_interval", "must be in ba, tok, sp or ep"
    if parse_time(c.console_log_interval)[1] != "ba":
        yield "console_log_interval", "must be in ba"
    for key in ("t_warmup", "t_max"):
        if getattr(c.scheduler, key).endswith("sec"):
            yield f"scheduler.{key}", "must be in ba, tok, sp or ep"
    scores = c.callbacks.score_checkpoints
    if scores is not None and parse_time(scores.interval)[1] == "sec":
        yield "callbacks.score_checkpoints.interval", "must be in ba, tok, sp or ep"
