"""Score one model on every rank's share of the questions; rank 0 writes the results and prints them."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from composer.utils import dist, get_device
from tokenizers import Tokenizer

from base import storage
from base.errors import UserError
from base.progress import progress, say
from eval.prompts import Prepared, load_tokenizer, prepare
from eval.results import ItemScore, Score, score_of, write_results
from eval.scoring import LogitsAt, batches_by_length, from_transformers, option_log_likelihoods
from model.checkpoint import fetch, read_manifest
from model.huggingface import config_from_huggingface
from model.load import Loaded, from_checkpoint, open_model
from recipes import parallel
from recipes.evaluation import Evaluation, Inputs
from recipes.together import together

FETCH_TIMEOUT = 3600.0  # seconds that the other ranks wait while one on each node fetches a checkpoint
CONTEXT = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")  # names in Hugging Face's configs


@dataclass
class Subject:
    """The model to score, on its device, with all that scoring needs to know of it.

    ``about`` says in the results what was scored and how it was computed.
    """

    logits_at: LogitsAt
    tokenizer: Tokenizer
    max_seq_len: int
    about: dict[str, Any]


def evaluate(config: Evaluation, inputs: Inputs) -> dict[str, Score]:
    """Score the model in fp32, on a GPU where there is one.

    The batches do not depend on the number of ranks, so neither do the scores.

    Returns:
        The scores by task, the same on every rank.
    """
    dist.initialize_dist(get_device(None), timeout=FETCH_TIMEOUT)
    leads = dist.get_global_rank() == 0
    device = torch.device("cuda", dist.get_local_rank()) if torch.cuda.is_available() else torch.device("cpu")
    subject = _load(inputs, device)
    if config.tokenizer is not None:
        subject.tokenizer = load_tokenizer(config.tokenizer)
    if leads:
        say(f"{subject.about['model']}, computed by {subject.about['computed_by']}")

    start = time.monotonic()
    scores: dict[str, Score] = {}
    items: list[ItemScore] = []
    for questions in inputs.questions:
        prepared = prepare(questions, subject.tokenizer, subject.max_seq_len, config.beginning_of_text)
        if leads:
            say(prepared.describe())
        mine = _my_log_likelihoods(prepared, subject.logits_at, config.device_eval_batch_size)
        found = {id: values for part in dist.all_gather_object(mine) for id, values in part.items()}
        scores[questions.task.name], task_items = score_of(prepared, found)
        items += task_items
    if leads:
        about = {**subject.about, "limit": config.limit, "seconds": round(time.monotonic() - start, 1)}
        write_results(config.out, inputs.name, scores, items, about)
        print(table(scores))
        say(f"results: {storage.join(config.out, inputs.name + '.json')} and {inputs.name}.items.jsonl")
    parallel.leave()
    return scores


def _my_log_likelihoods(prepared: Prepared, logits_at: LogitsAt, batch_size: int) -> dict[str, tuple[float, ...]]:
    """This rank's share, with a progress line on rank 0."""
    rank, world_size = dist.get_global_rank(), dist.get_world_size()
    if rank != 0:
        return option_log_likelihoods(prepared.encoded, logits_at, batch_size, rank, world_size)
    batches = len(range(0, len(batches_by_length(prepared.encoded, batch_size)), world_size))
    with progress(prepared.questions.task.name, batches + 1, "batches") as advance:  # 1: the look at the vocabulary

        def watched(input_ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
            logits = logits_at(input_ids, positions)
            advance(1)
            return logits

        return option_log_likelihoods(prepared.encoded, watched, batch_size, rank, world_size)


def table(scores: dict[str, Score]) -> str:
    """The scores as lines of text; what could not be scored counts as wrong and is in ``n``."""
    head = f"{'task':<10}{'acc':>7}  {'95 % interval':<15}{'acc_norm':>9}{'majority':>10}{'n':>7}{'too long':>10}"
    lines = [f"{head}{'bad rows':>10}"]
    for name, score in scores.items():
        interval = f"{score.ci95[0]:.3f}-{score.ci95[1]:.3f}"
        shares = f"{score.acc:>7.3f}  {interval:<15}{score.acc_norm:>9.3f}{score.majority:>10.3f}"
        lines.append(f"{name:<10}{shares}{score.n:>7,}{score.too_long:>10,}{score.bad_rows:>10,}")
    return "\n".join(lines)


# --- the model ---------------------------------------------------------------------------------------------------


def _load(inputs: Inputs, device: torch.device) -> Subject:
    if inputs.huggingface is None:
        location = dist.all_gather_object(inputs.model)[0]  # the newest one may have changed between two looks
        with _on_this_node(location) as folder:
            manifest = read_manifest(str(folder))
            about = {"model": location, "batch": manifest["batch"], "tokens": manifest["token"]}
            return _ours(from_checkpoint(folder), device, about)
    try:
        config_from_huggingface(inputs.huggingface)
    except (ValueError, KeyError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        return _transformers(Path(inputs.model), device, reason)
    with open_model(inputs.model) as loaded:
        return _ours(loaded, device, {"model": inputs.model})


@contextmanager
def _on_this_node(location: str) -> Iterator[Path]:
    """A checkpoint's files in a temporary folder, fetched and checked by one rank a node, read by all before it goes.

    Raises:
        UserError: on every rank, when any could not fetch it.
    """
    with tempfile.TemporaryDirectory(prefix="evaluate-") as mine:
        together(lambda: fetch(location, Path(mine)) if dist.get_local_rank() == 0 else None)
        folders = dist.all_gather_object(mine)
        yield Path(folders[dist.get_global_rank() - dist.get_local_rank()])
        dist.barrier()


def _ours(loaded: Loaded, device: torch.device, about: dict[str, Any]) -> Subject:
    """A GPT-2, by the module that trains: attention scaling as in its configuration."""
    model, tokenizer = loaded.model.to(device), loaded.tokenizer
    tokenizer.no_truncation()  # may be stored in the file, and would cut questions in silence
    tokenizer.no_padding()

    def logits_at(input_ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        return model(input_ids.to(device), positions=positions.to(device))

    about |= {"computed_by": "model.gpt", "device": device.type, "shape": asdict(model.config)}
    return Subject(logits_at, tokenizer, model.config.max_seq_len, about)


def _transformers(folder: Path, device: torch.device, reason: str) -> Subject:
    """Any other causal language model, by transformers, without code from the folder.

    transformers 4.42 to 5.3 ignores ``scale_attn_by_inverse_layer_idx`` outside eager attention and computes another
    model: eager where the configuration has it.
    """
    import transformers
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        eager = bool(getattr(config, "scale_attn_by_inverse_layer_idx", False))
        model, loading = AutoModelForCausalLM.from_pretrained(
            folder, config=config, torch_dtype=torch.float32, use_safetensors=True, local_files_only=True,
            output_loading_info=True, **({"attn_implementation": "eager"} if eager else {}),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise UserError(f"model: {folder}: transformers cannot load it: {error}", shared=True) from error
    if loading["missing_keys"] or loading["mismatched_keys"]:
        names = ", ".join(map(str, [*loading["missing_keys"], *loading["mismatched_keys"]][:5]))
        raise UserError(f"model: {folder}: its weights are not those of {type(model).__name__}: {names}", shared=True)
    context = next((getattr(config, name) for name in CONTEXT if isinstance(getattr(config, name, None), int)), None)
    if context is None:
        raise UserError(f"model: {folder}/config.json: gives no context length ({', '.join(CONTEXT)})", shared=True)
    attention = "eager attention, for scale_attn_by_inverse_layer_idx" if eager else f"{config._attn_implementation}"
    computed_by = f"transformers {transformers.__version__}, {type(model).__name__}, {attention} ({reason})"
    about = {"model": str(folder), "computed_by": computed_by, "device": device.type}
    return Subject(from_transformers(model.to(device).eval()), load_tokenizer(str(folder)), context, about)
