"""The training configuration: each key, its type, its default. Imports nothing heavy.

Names are those that users of Composer and llm-foundry know; a key under a component is that constructor's argument.
"""

from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from base.configuration import Schema, Section
from base.errors import UserError
from eval.tasks import protocols
from model.config import GPTConfig
from recipes.times import parse_bytes, parse_fraction, parse_time

DATASET = "train_loader.dataset"
WEIGHTS = ("proportion", "repeat", "choose")  # of a stream: one of them, or none


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
        raise ValueError("must be at least 1, or -1 for all")
    return number


def _time_in_data(text: str) -> str:
    value, unit = parse_time(text)
    if unit not in ("tok", "sp") or value == 0:
        raise ValueError(f"must be in tok or sp, and more than 0; it is {text!r}")
    return text


def _tokens(text: str) -> str:
    value, unit = parse_time(text)
    if unit != "tok" or value == 0:
        raise ValueError(f"must be in tok, and more than 0; it is {text!r}")
    return text


def _bytes(limit: int | str) -> int | str:
    parse_bytes(limit)
    return limit


def _tasks(names: list[str]) -> list[str]:
    try:
        protocols(names)
    except UserError as error:
        raise ValueError(str(error).removeprefix("tasks: ")) from None
    return names


TimeInData = Annotated[str, AfterValidator(_time_in_data)]
TimeInSchedule = Annotated[str, AfterValidator(_time_in_schedule)]
Interval = Annotated[str, AfterValidator(_interval)]
Positive = Annotated[int, Field(gt=0)]
Tasks = Annotated[list[str], Field(min_length=1), AfterValidator(_tasks)]
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
    shuffle_seed: Annotated[int, Field(ge=0)] = 9176
    shuffle_block_size: Positive | None = None
    num_canonical_nodes: Positive = 1  # fixed, so that the order of samples does not depend on the number of ranks
    predownload: Positive | None = None
    cache_limit: Annotated[int | str, AfterValidator(_bytes)] | None = None  # such as 200gb, of all streams together

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


class BatchSizeWarmup(Section):
    """Smaller batches at first, cut out of the same order of sequences; see recipes.batch_size.

    The first has ``global_train_batch_size`` / 2 to the number of ``double_at``; each of these doubles it.
    """

    double_at: Annotated[list[TimeInData], Field(min_length=1)]


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


class Float8(Section):
    """Argument of torchao's Float8LinearConfig.from_recipe_name: FP8 products in the blocks while training."""

    recipe_name: Literal["tensorwise", "rowwise"]


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

    tasks: Tasks
    data: str
    interval: Interval
    limit: Positive | None = None
    device_eval_batch_size: Positive = 16
    results_folder: str | None = None
    beginning_of_text: bool = False
    max_share_of_time: Annotated[float, Field(gt=0, le=1)] = 0.05


class LoaderWait(Section):
    """How long each step waits for its batch; see recipes.callbacks.loader_wait."""

    batch_interval: Positive = 50


class StepTime(Section):
    """How long a step takes, and which rank the others wait for; see recipes.callbacks.step_time."""

    batch_interval: Positive = 50


class ScheduledGC(Section):
    """Garbage collection on all ranks at the same batch; see recipes.callbacks.scheduled_gc."""

    batch_interval: Positive = 1000


Policy = Literal["stop", "skip", "roll_back"]


class Guard(Section):
    """What to do about a step whose loss or gradient norm is not sound; see recipes.callbacks.guard."""

    not_finite: Policy = "stop"
    loss_spike: Policy | None = None
    gradient_spike: Policy | None = None
    window: Annotated[int, Field(ge=8)] = 128  # sound steps that a spike is judged by
    deviations: Annotated[float, Field(gt=0)] = 6.0
    most_skips: Positive = 10  # within a window; more stop the run
    saves_back: Positive = 1  # for roll_back: 1 is the newest checkpoint
    most_roll_backs: Positive = 3  # in the whole run


class Watchdog(Section):
    """Ends a run that hangs, with every rank's stack; see recipes.callbacks.watchdog."""

    seconds: Annotated[float, Field(gt=0)] | None = None  # None: four fifths of dist_timeout


class Callbacks(Section):
    speed_monitor: SpeedMonitor | None = None
    lr_monitor: LRMonitor | None = None
    memory_monitor: MemoryMonitor | None = None
    runtime_estimator: RuntimeEstimator | None = None
    loader_wait: LoaderWait | None = None
    step_time: StepTime | None = None
    scheduled_gc: ScheduledGC | None = None
    guard: Guard | None = None
    watchdog: Watchdog | None = None
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
    scheduler: Annotated[CosineWithWarmup | ConstantWithWarmup | WarmupStableDecay, Field(discriminator="name")]
    algorithms: Algorithms = Algorithms()
    max_duration: Interval
    global_train_batch_size: Positive
    batch_size_warmup: BatchSizeWarmup | None = None
    device_train_microbatch_size: Positive | Literal["auto"]
    precision: Literal["fp32", "amp_bf16"] = "amp_bf16"
    fsdp_config: FSDP = FSDP()
    compile_config: Compile | None = None
    float8: Float8 | None = None
    dist_timeout: Positive = 600
    callbacks: Callbacks = Callbacks()
    loggers: Loggers = Loggers()
    progress_bar: bool = True
    console_log_interval: Interval = "1ba"
    run_folder: str  # local: the resolved configuration and the metrics of this run
    save_folder: str | None = None  # local or s3://: the checkpoints
    save_interval: Interval = "1000ba"
    save_num_checkpoints_to_keep: Annotated[int, Field(ge=-1), AfterValidator(_not_none)] = -1  # -1: all
    save_keep_every: Annotated[str, AfterValidator(_tokens)] | None = None  # and the first after every so many tokens
    autoresume: bool = False
    load_path: str | None = None  # a checkpoint of another run, FOLDER/epE-baB, to go on from when there is none here
    trust_checkpoint: bool = False  # true: a checkpoint that could run code is loaded, and runs it
    load_dataset_state: bool = True  # false: without load_path's place in its data; an epoch of this run's data begins
    hardware: Hardware | None = None

    @classmethod
    def cross_checks(cls) -> list[Callable[[Any], Iterable[tuple[str, str]]]]:
        from recipes.cross_checks import CROSS_CHECKS  # it knows the sections

        return CROSS_CHECKS

    def gpt_config(self, vocab_size: int) -> GPTConfig:
        """The shape, with the vocabulary size filled in."""
        values = self.model.model_dump(exclude={"name", "init_device", "vocab_size", "z_loss", "document_mask"})
        return GPTConfig(vocab_size=vocab_size, max_seq_len=self.max_seq_len, **values)

    @property
    def tokens_per_batch(self) -> int:
        return self.global_train_batch_size * self.max_seq_len
