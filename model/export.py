"""From a checkpoint to a Hugging Face folder, with the proof that it gives the same logits.

python -m model.export --checkpoint s3://bucket/runs/biomedlm --out exported
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from base import storage
from base.errors import UserError, run_command
from base.progress import say
from model.checkpoint import MANIFEST, TOKENIZER_FILES, resolve
from model.config import GPTConfig

if TYPE_CHECKING:  # torch takes seconds to import; --help does not wait for it
    import torch

    from model.load import Loaded

TOLERANCE = 1e-3  # of logits, fp32, after the last layer; the 2.7B model's are in the tens
PROOF_TOKENS = 64

CARD = """---
library_name: transformers
tags: [biomedical, gpt2]
---

# {title}

A GPT-2 decoder with {parameters:,} parameters ({layers} layers, width {width}, {heads} heads, {positions} learned
positions, {vocabulary:,} entries), exported from `{checkpoint}` (batch {batch:,}, {tokens:,} tokens seen).

{warning}
Proof of the export: on {proof_tokens} tokens, the largest difference between the logits of the training code and of
`transformers` {transformers} with eager attention was {difference:.2e}.

The model writes text that reads like its training data. It is not a source of medical advice.
"""

SCALING_WARNING = """## Load it with eager attention

    AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")

This model divides the attention scores of layer i by i + 1 (`scale_attn_by_inverse_layer_idx`).
`transformers` **4.42 up to and including 5.3 ignores that on its default attention (SDPA) and on FlashAttention,
without a message, and computes another model**. Up to 4.41, and from 5.4 on, every attention honours it.
"""


def export_huggingface(checkpoint: str, out: Path) -> dict[str, Any]:
    """Write ``out`` (config, safetensors, tokenizer, model card), aside first, and prove it.

    Returns:
        ``path``, ``checkpoint``, ``batch``, ``max_logit_difference``.

    Raises:
        UserError: the checkpoint is not there or damaged, ``out`` is taken, or the logits differ.
    """
    import torch

    from model.load import open_model

    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"--out {out}: is there already and not an empty folder; choose another, or delete it")
    checkpoint = resolve(checkpoint)
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        with open_model(checkpoint) as loaded:
            manifest = json.loads((loaded.folder / MANIFEST).read_bytes())
            _write(loaded, aside)
            ids = _proof_ids(loaded)
            with torch.inference_mode():
                logits = loaded.model(ids)
        difference = (logits - _logits_of_transformers(aside, ids)).abs().max().item()
        if not difference <= TOLERANCE:
            raise UserError(f"{checkpoint}: the exported model's logits differ by {difference:.2e}; nothing was kept")
        record = {
            "checkpoint": checkpoint,
            "batch": manifest["batch"],
            "tokens": manifest["token"],
            "max_logit_difference": difference,
        }
        (aside / "export.json").write_text(json.dumps(record, indent=1))
        (aside / "README.md").write_text(_card(out.name, manifest, record))
        if out.exists():
            out.rmdir()
        aside.chmod(0o755)
        aside.rename(out)
    except OSError as error:
        raise storage.disk_error(out, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return {"path": str(out), **record}


def _write(loaded: "Loaded", folder: Path) -> None:
    from safetensors.torch import save_file

    from model.huggingface import config_to_huggingface, weights_to_huggingface

    config = config_to_huggingface(loaded.model.config, loaded.end_of_text)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    ends = {"bos_token_id": loaded.end_of_text, "eos_token_id": loaded.end_of_text}
    (folder / "generation_config.json").write_text(json.dumps(ends, indent=2))
    weights = weights_to_huggingface(loaded.model.state_dict())
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    for name in TOKENIZER_FILES:
        if (loaded.folder / name).exists():
            shutil.copyfile(loaded.folder / name, folder / name)


def _proof_ids(loaded: "Loaded") -> "torch.Tensor":
    """1 T: ids spread over the vocabulary, the same each time."""
    import torch

    length = min(PROOF_TOKENS, loaded.model.config.max_seq_len)
    generator = torch.Generator().manual_seed(0)
    return torch.randint(loaded.model.config.vocab_size, (1, length), generator=generator)


def _logits_of_transformers(folder: Path, ids: "torch.Tensor") -> "torch.Tensor":
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.inference_mode():
        return model(ids).logits


def _card(title: str, manifest: dict[str, Any], record: dict[str, Any]) -> str:
    import transformers

    config = GPTConfig(**manifest["model"])
    return CARD.format(
        title=title,
        parameters=config.n_parameters,
        layers=config.n_layers,
        width=config.d_model,
        heads=config.n_heads,
        positions=config.max_seq_len,
        vocabulary=config.vocab_size,
        checkpoint=record["checkpoint"],
        batch=record["batch"],
        tokens=record["tokens"],
        warning=SCALING_WARNING if config.scale_attn_by_inverse_layer_idx else "",
        proof_tokens=PROOF_TOKENS,
        transformers=transformers.__version__,
        difference=record["max_logit_difference"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, help="a checkpoint, or a folder of them: the newest whole one")
    parser.add_argument("--out", required=True, type=Path, help="the folder to make")
    parser.add_argument("--format", choices=["hf"], default="hf")
    arguments = parser.parse_args()
    record = export_huggingface(arguments.checkpoint, arguments.out)
    say(f"{record['path']}: logits as in training, to {record['max_logit_difference']:.1e}")


if __name__ == "__main__":
    run_command(main)
