"""The training configuration: each key, its type, its default. Imports nothing heavy.

Names are those that users of Composer and llm-foundry know; a key under a component is that constructor's argument.
"""

import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from base.configuration import Schema, Section
from model.config import GPTConfig

TIME_UNITS = ("ba", "tok", "sp", "ep", "sec")
Duration = tuple[int, str]


def parse_time(text: str) -> Duration:
    """``"100ba"`` → ``(100, "ba")``. Raises ValueError with the forms that are known."""
    match = re.fullmatch(rf"(\d[\d_]*)({'|'.join(TIME_UNITS)})", text)
    if not match:
        raise ValueError(f"must be a number and a unit, such as 100ba, 1ep, 300000000000tok or 1800sec; it is {text!r}")
    return int(match[1].replace("_", "")), match[2]


def parse_fraction(text: str) -> float | None:
    """``"0.2dur"``, a part of the run, → 0.2; None for a time in another unit."""
    match = re.fullmatch(r"(\d*\.?\d+)dur", text)
    return float(match[1]) if match else None


def _time_in_schedule(text: str) -> str:
    fraction = parse_fraction(text)
    if fraction is not None and fraction > 1:
        raise ValueError(f"must be at most 1dur, the whole run; it is {text!r}")
    if fraction is None and parse_time(text)[1] == "sec":
        raise ValueError("must be in ba, tok, sp or ep, or a part of the run such as 0.2dur")
    return text


def _interval(text: str) -> str:
    if parse_time(text)[0] == 0:
        raise ValueError("must be at least 1")
    return text


def _not_none(number: int) -> int:
    if number == 0:
        raise ValueError("must be at least 1, or -1 to keep all")
    return number


TimeInSchedule = Annotated[str, AfterValidator(_time_in_schedule)]
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
    z_loss: Annotated[float, Field(ge=0)] = 0.0  # of the training, not the shape: coefficient of log(Z)² in the loss
    document_mask: bool = False  # of the training: attention within documents, by FlexAttention
    init_device: Literal["cpu", "meta"] = "cpu"


class Tokenizer(Section):
    """A folder, local or s3://, with tokenizer.json."""

    name: str


class Dataset(Section):
    """Arguments of streaming.StreamingDataset."""

    remote: str | None = None
    local: str
    split: str | None = None
    shuffle: bool = False
    shuffle_algo: Literal["py1s", "py1e", "py1b", "py1br", "py2s", "naive"] = "py1e"
    shuffle_seed: int = 9176
    shuffle_block_size: Positive | None = None
    num_canonical_nodes: Positive = 1  # fixed, so that the order of samples does not depend on the number of ranks
    predownload: Positive | None = None
    cache_limit: int | str | None = None
    download_retry: int = 2
    download_timeout: float = 60


class Loader(Section):
    """Arguments of streaming.StreamingDataLoader around a packed MDS dataset."""

    name: Literal["text"] = "text"
    dataset: Dataset
    drop_last: bool = True
    num_workers: Annotated[int, Field(ge=0)] = 1
    prefetch_factor: Positive = 2
    pin_memory: bool = True
    persistent_workers: bool = True


class DecoupledAdamW(Section):
    """Composer's DecoupledAdamW, computed by torch's fused AdamW with weight_decay / lr (the same update).

    ``no_weight_decay`` names kinds of parameters that do not decay: ``embeddings`` (of tokens and of positions, and so
    the tied head), ``norms`` (their weights and biases), ``biases`` (all). Empty, as in the paper: everything decays.
    """

    name: Literal["decoupled_adamw"]
    lr: Annotated[float, Field(gt=0)]
    betas: Annotated[list[Probability], Field(min_length=2, max_length=2)] = [0.9, 0.95]
    eps: float = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    no_weight_decay: list[Literal["embeddings", "norms", "biases"]] = []


class CosineWithWarmup(Section):
    """Composer's CosineAnnealingWithWarmupScheduler."""

    name: Literal["cosine_with_warmup"]
    t_warmup: TimeInSchedule
    t_max: TimeInSchedule = "1dur"
    alpha_f: Annotated[float, Field(ge=0, le=1)] = 0.1


class ConstantWithWarmup(Section):
    """Composer's ConstantWithWarmupScheduler: the trunk of warmup_stable_decay, when the end is not known."""

    name: Literal["constant_with_warmup"]
    t_warmup: TimeInSchedule


class WarmupStableDecay(Section):
    """recipes.schedules.WarmupStableDecay: ``t_decay`` ends with the run; before it nothing depends on max_duration."""

    name: Literal["warmup_stable_decay"]
    t_warmup: TimeInSchedule
    t_decay: TimeInSchedule = "0.2dur"
    form: Literal["1-sqrt", "linear"] = "1-sqrt"
    alpha_f: Annotated[float, Field(ge=0, le=1)] = 0.0


class GradientClipping(Section):
    """Clipping by the global norm; the norm is logged. A threshold of ``.inf`` logs it and clips nothing."""

    clipping_type: Literal["norm"] = "norm"
    clipping_threshold: Annotated[float, Field(gt=0)] = 1.0


class Algorithms(Section):
    gradient_clipping: GradientClipping | None = None


class FSDP(Section):
    """FSDP2, under the names that users of FSDP1 in llm-foundry know."""

    sharding_strategy: Literal["FULL_SHARD", "SHARD_GRAD_OP", "HYBRID_SHARD"] = "FULL_SHARD"
    data_parallel_shard_degree: Positive | None = (
        None  # HYBRID_SHARD: ranks that share one copy, such as those of a node
    )
    mixed_precision: Literal["DEFAULT", "PURE", "FULL"] = "DEFAULT"  # PURE also reduces gradients in bf16
    activation_checkpointing: bool = False
    activation_checkpointing_interval: Positive = 1  # of every how many blocks one is recomputed
    activation_cpu_offload: bool = False


class Compile(Section):
    """Arguments of torch.compile, for each block and the loss. ``compile_config: {}`` is on, null is off."""

    mode: Literal["default", "max-autotune-no-cudagraphs"] = "default"


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


class Callbacks(Section):
    speed_monitor: SpeedMonitor | None = None
    lr_monitor: LRMonitor | None = None
    memory_monitor: MemoryMonitor | None = None
    runtime_estimator: RuntimeEstimator | None = None
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
    optimizer: DecoupledAdamW
    scheduler: Annotated[CosineWithWarmup | ConstantWithWarmup | WarmupStableDecay, Field(discriminator="name")]
    algorithms: Algorithms = Algorithms()
    max_duration: Interval
    global_train_batch_size: Positive
    device_train_microbatch_size: Positive | Literal["auto"]
    precision: Literal["fp32", "amp_bf16"] = "amp_bf16"
    fsdp_config: FSDP = FSDP()
    compile_config: Compile | None = None
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
    load_path: str | None = None  # a checkpoint of another run, FOLDER/epE-baB, to go on from when there is none here
    hardware: Hardware | None = None

    @classmethod
    def cross_checks(cls) -> list[Callable[[Any], Iterable[tuple[str, str]]]]:
        return [_heads_divide_width, _schedule_fits_into_the_run, _microbatch_fits, _cache_has_a_source,
                _resume_has_a_place, _load_path_is_another_run, _time_units_fit, _sharding_is_whole,
                _documents_have_a_kernel]  # fmt: skip

    def gpt_config(self, vocab_size: int) -> GPTConfig:
        """The shape, with the vocabulary size filled in."""
        values = self.model.model_dump(exclude={"name", "init_device", "vocab_size", "z_loss", "document_mask"})
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


def in_unit_of_run(time: str, config: Training) -> str:
    """A time of the schedule in the unit of ``max_duration`` (batches, for epochs); ``dur`` and ``ep`` stay."""
    if parse_fraction(time) is not None or time.endswith("ep"):
        return time
    (value, unit), whole_unit = parse_time(time), parse_time(config.max_duration)[1]
    tokens = {"ba": config.tokens_per_batch, "ep": config.tokens_per_batch, "tok": 1, "sp": config.max_seq_len}
    return f"{-(-value * tokens[unit] // tokens[whole_unit])}{'ba' if whole_unit == 'ep' else whole_unit}"


def part_of_run(time: str, config: Training, samples_per_epoch: int | None = None) -> float | None:
    """A time of the schedule as a part of ``max_duration``; None when that needs the size of the dataset."""
    fraction = parse_fraction(time)
    if fraction is not None:
        return fraction
    (value, unit), (whole, whole_unit) = parse_time(time), parse_time(config.max_duration)
    if unit == whole_unit:
        return value / whole
    batch = config.global_train_batch_size * config.max_seq_len
    tokens = {"ba": batch, "tok": 1, "sp": config.max_seq_len}
    if samples_per_epoch is not None and samples_per_epoch >= config.global_train_batch_size:
        tokens["ep"] = samples_per_epoch // config.global_train_batch_size * batch
    if unit not in tokens or whole_unit not in tokens:
        return None
    return value * tokens[unit] / (whole * tokens[whole_unit])


Faults = Iterable[tuple[str, str]]


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
        yield "model.n_heads", f"{c.model.n_heads} heads do not divide d_model {c.model.d_model}"


def _schedule_fits_into_the_run(c: Training) -> Faults:
    yield from schedule_faults(c, samples_per_epoch=None)


def _sharding_is_whole(c: Training) -> Faults:
    fsdp = c.fsdp_config
    if (fsdp.sharding_strategy == "HYBRID_SHARD") != (fsdp.data_parallel_shard_degree is not None):
        yield (
            "fsdp_config.data_parallel_shard_degree",
            "HYBRID_SHARD needs it, the number of ranks that share one copy of the model; the others do not take it",
        )
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


def _microbatch_fits(c: Training) -> Faults:
    if c.device_train_microbatch_size == "auto":
        return
    if c.global_train_batch_size % c.device_train_microbatch_size:
        yield (
            "device_train_microbatch_size",
            f"{c.device_train_microbatch_size} does not divide global_train_batch_size {c.global_train_batch_size}",
        )


def _cache_has_a_source(c: Training) -> Faults:
    dataset = c.train_loader.dataset
    if dataset.cache_limit is not None and dataset.remote is None:
        # streaming issue 988: eviction would delete the only copy
        yield "train_loader.dataset.cache_limit", "a dataset without `remote` has no other copy; leave out the limit"


def _resume_has_a_place(c: Training) -> Faults:
    if c.autoresume and c.save_folder is None:
        yield "autoresume", "needs save_folder: there is nowhere to resume from"


def _load_path_is_another_run(c: Training) -> Faults:
    if (
        c.load_path is not None
        and c.save_folder is not None
        and c.load_path.startswith(c.save_folder.rstrip("/") + "/")
    ):
        yield "load_path", f"lies in save_folder {c.save_folder}; choose another run_name or folder for the new run"


def _time_units_fit(c: Training) -> Faults:
    if parse_time(c.max_duration)[1] == "sec":
        yield "max_duration", "must be in ba, tok, sp or ep"
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
