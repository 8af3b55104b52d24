"""The model that is scored, on its device, with all that scoring needs to know of it."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from composer.utils import dist, get_device

from base.errors import UserError
from eval.gpt_scorer import GPTScorer
from eval.prompts import Encoder, FastEncoder
from eval.transformers_encoder import load_encoder
from eval.transformers_scorer import TransformersScorer
from model.checkpoint import fetch, read_manifest
from model.huggingface import config_from_huggingface
from model.load import Loaded, from_checkpoint, open_model
from recipes.evaluation import Model
from recipes.together import together

FETCH_TIMEOUT = 3600.0  # seconds that the other ranks wait while one on each node fetches a checkpoint
CONTEXT = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")  # names in Hugging Face's configs


@dataclass
class Subject:
    """``about`` says in the results what was scored and how it was computed."""

    scorer: GPTScorer | TransformersScorer
    encoder: Encoder
    max_seq_len: int
    device: torch.device
    about: dict[str, Any]


def start() -> torch.device:
    """Start the ranks' group; this rank's device."""
    dist.initialize_dist(get_device(None), timeout=FETCH_TIMEOUT)
    return torch.device("cuda", dist.get_local_rank()) if torch.cuda.is_available() else torch.device("cpu")


def load_subject(model: Model, device: torch.device) -> Subject:
    """Load a checkpoint of ours or a Hugging Face model, in fp32.

    Raises:
        UserError: on every rank, when any could not read it.
    """
    if model.huggingface is None:
        location = dist.all_gather_object(model.location)[0]  # the newest one may have changed between two looks
        with _on_this_node(location) as folder:
            manifest = read_manifest(str(folder))
            about = {"model": location, "batch": manifest["batch"], "tokens": manifest["token"]}
            return _ours(from_checkpoint(folder), device, about)
    folder = Path(model.location)
    try:
        config_from_huggingface(model.huggingface)
    except (ValueError, KeyError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        return _transformers(folder, device, reason)
    if not any(folder.glob("*.safetensors")):
        return _transformers(folder, device, "its weights are not safetensors")
    with open_model(model.location) as loaded:
        return _ours(loaded, device, {"model": model.location})


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
    model = loaded.model.to(device)

    def forward(batch: Mapping[str, Any]) -> torch.Tensor:
        return model(batch["input_ids"], positions=batch["positions"], branches=batch.get("branches"))

    about |= {"computed_by": "model.gpt", "device": device.type, "shape": asdict(model.config)}
    return Subject(GPTScorer(forward, device), FastEncoder(loaded.tokenizer), model.config.max_seq_len, device, about)


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
            folder, config=config, torch_dtype=torch.float32, local_files_only=True,
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
    return Subject(TransformersScorer(model.to(device).eval()), load_encoder(folder), context, device, about)
