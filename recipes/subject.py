"""The model that is scored, on its device, with all that scoring needs to know of it."""

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from composer.utils import dist, get_device
from safetensors import SafetensorError

from base.errors import MayPass, NotThere, UserError
from eval.gpt_scorer import GPTScorer
from eval.prompts import Encoder, FastEncoder, load_tokenizer
from eval.transformers_encoder import load_encoder
from eval.transformers_scorer import TransformersScorer
from model.checkpoint import DamagedCheckpoint, fetch, read_manifest
from model.huggingface import config_from_huggingface
from model.load import Loaded, from_checkpoint, open_model
from recipes.evaluation import Model
from recipes.together import together

FETCH_TIMEOUT = 3600.0  # seconds that the other ranks wait while one on each node fetches a checkpoint
CONTEXT = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")  # names in Hugging Face's configs


@dataclass
class Subject:
    """``about`` says in the results what was scored and how it was computed; ``identity`` changes with the weights."""

    scorer: GPTScorer | TransformersScorer
    encoder: Encoder
    max_seq_len: int
    device: torch.device
    identity: str
    about: dict[str, Any]


def start() -> torch.device:
    """Start the ranks' group; this rank's device."""
    dist.initialize_dist(get_device(None), timeout=FETCH_TIMEOUT)
    return torch.device("cuda", dist.get_local_rank()) if torch.cuda.is_available() else torch.device("cpu")


def load_subject(
    model: Model, device: torch.device, tokenizer: str | None = None, max_seq_len: int | None = None
) -> Subject:
    """Load a checkpoint of ours or a Hugging Face model, in fp32.

    Args:
        tokenizer: a folder with ``tokenizer.json``, local or s3://; None: the model's own.
        max_seq_len: tokens that it reads; None: as many as it can.

    Raises:
        UserError: on every rank, when any could not read it.
    """
    encoder = FastEncoder(load_tokenizer(tokenizer)) if tokenizer is not None else None
    if model.huggingface is None:
        location = dist.all_gather_object(model.location)[0]  # the newest one may have changed between two looks
        with _on_this_node(location) as folder:
            manifest = read_manifest(str(folder))
            about = {"model": location, "batch": manifest["batch"], "tokens": manifest["token"]}
            files = json.dumps(manifest["files"], sort_keys=True)
            identity = hashlib.sha256(files.encode()).hexdigest()
            return _ours(from_checkpoint(folder), device, identity, about, encoder, max_seq_len)
    folder = Path(model.location)
    if reason := _not_ours(folder, model.huggingface):
        return _transformers(folder, device, reason, encoder, max_seq_len)
    with open_model(model.location) as loaded:
        return _ours(loaded, device, _identity_of(folder), {"model": model.location}, encoder, max_seq_len)


def _not_ours(folder: Path, huggingface: Mapping[str, Any]) -> str | None:
    """Why transformers must compute it; None for a GPT-2 that our module takes."""
    try:
        config_from_huggingface(huggingface)
    except (ValueError, KeyError) as error:
        return f"it has no {error}" if isinstance(error, KeyError) else str(error)
    return None if any(folder.glob("*.safetensors")) else "its weights are not safetensors"


def _identity_of(folder: Path) -> str:
    """By names, sizes and times: to read tens of gigabytes for it would take longer than some evaluations."""
    files = sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in folder.iterdir())
    return hashlib.sha256(json.dumps([str(folder.resolve()), files]).encode()).hexdigest()


def _length(learned: int | None, asked: int | None, folder: Path) -> int:
    """Tokens that are read at most: what was asked for, or all that the model has learned."""
    length = learned if asked is None else asked
    if length is None:
        names = ", ".join(CONTEXT)
        raise UserError(
            f"model: {folder}/config.json: gives no context length ({names}); give max_seq_len", shared=True
        )
    if learned is not None and length > learned:
        raise UserError(f"max_seq_len: {length:,} is more than the {learned:,} positions of {folder}", shared=True)
    return length


@contextmanager
def _on_this_node(location: str) -> Iterator[Path]:
    """A checkpoint's files in a temporary folder, fetched and checked by one rank a node, read by all before it goes.

    Raises:
        UserError: on every rank, when any could not fetch it.
    """
    with tempfile.TemporaryDirectory(prefix="evaluate-") as mine:
        together(lambda: _fetch(location, Path(mine)) if dist.get_local_rank() == 0 else None)
        folders = dist.all_gather_object(mine)
        yield Path(folders[dist.get_global_rank() - dist.get_local_rank()])
        dist.barrier()


def _fetch(location: str, into: Path) -> None:
    """Raises MayPass for what is wrong here, a full disk say, and not with the checkpoint."""
    try:
        fetch(location, into)
    except (DamagedCheckpoint, NotThere):
        raise
    except UserError as error:
        raise MayPass(f"{location} cannot be fetched: {error}", error.shared) from error


def _ours(
    loaded: Loaded,
    device: torch.device,
    identity: str,
    about: dict[str, Any],
    encoder: Encoder | None,
    max_seq_len: int | None,
) -> Subject:
    """A GPT-2, by the module that trains: attention scaling as in its configuration."""
    model = loaded.model.to(device)

    def forward(batch: Mapping[str, Any]) -> torch.Tensor:
        return model(batch["input_ids"], positions=batch["positions"], branches=batch.get("branches"))

    about |= {"computed_by": "model.gpt", "device": device.type, "shape": asdict(model.config)}
    encoder = encoder or FastEncoder(loaded.tokenizer)
    length = _length(model.config.max_seq_len, max_seq_len, loaded.folder)
    return Subject(GPTScorer(forward, device), encoder, length, device, identity, about)


def _transformers(
    folder: Path,
    device: torch.device,
    reason: str,
    encoder: Encoder | None = None,
    max_seq_len: int | None = None,
) -> Subject:
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
            folder, config=config, torch_dtype=torch.float32, local_files_only=True,
            output_loading_info=True, **({"attn_implementation": "eager"} if eager else {}),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise UserError(f"model: {folder}: transformers cannot load it: {error}", shared=True) from error
    if loading["missing_keys"] or loading["mismatched_keys"]:
        names = ", ".join(map(str, [*loading["missing_keys"], *loading["mismatched_keys"]][:5]))
        raise UserError(f"model: {folder}: its weights are not those of {type(model).__name__}: {names}", shared=True)
    context = next((getattr(config, name) for name in CONTEXT if isinstance(getattr(config, name, None), int)), None)
    length = _length(context, max_seq_len, folder)
    attention = "eager attention, for scale_attn_by_inverse_layer_idx" if eager else model.config._attn_implementation
    computed_by = f"transformers {transformers.__version__}, {type(model).__name__}, {attention} ({reason})"
    about = {"model": str(folder), "computed_by": computed_by, "device": device.type}
    encoder = encoder or load_encoder(folder)
    return Subject(TransformersScorer(model.to(device).eval()), encoder, length, device, _identity_of(folder), about)
