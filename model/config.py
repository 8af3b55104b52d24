"""The shape of a model and what follows from it by arithmetic. Imports nothing heavy."""

from dataclasses import asdict, dataclass
from typing import Any

END_OF_TEXT = "<|endoftext|>"  # the token that ends a document


@dataclass(frozen=True)
class GPTConfig:
    """A GPT-2 decoder as BioMedLM has it. The defaults are the 2.7B model's (paper, table 1; its config.json).

    Keys follow llm-foundry's MPT where it has one, GPT-2's otherwise.
    """

    vocab_size: int = 28_896
    max_seq_len: int = 1_024
    d_model: int = 2_560
    n_heads: int = 20
    n_layers: int = 32
    expansion_ratio: int = 4
    attn_pdrop: float = 0.1
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    # Softmax scale of layer i (from 0) divided by (i + 1). transformers 4.42 to 5.3 ignores it outside eager attention.
    scale_attn_by_inverse_layer_idx: bool = True

    def __post_init__(self) -> None:
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model {self.d_model} is not divisible by n_heads {self.n_heads}")

    @property
    def d_head(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.n_heads

    def parameters_by_part(self) -> dict[str, int]:
        """Number of parameters of each part; the head shares the token embedding and has none of its own."""
        d, hidden = self.d_model, self.expansion_ratio * self.d_model
        layer_norm = 2 * d
        attention = d * 3 * d + 3 * d + d * d + d
        mlp = d * hidden + hidden + hidden * d + d
        return {
            "token embedding": self.vocab_size * d,
            "position embedding": self.max_seq_len * d,
            "attention": self.n_layers * attention,
            "mlp": self.n_layers * mlp,
            "layer norms": self.n_layers * 2 * layer_norm + layer_norm,
        }

    @property
    def n_parameters(self) -> int:
        """2,594,247,680 for the 2.7B model."""
        return sum(self.parameters_by_part().values())

    def flops_per_token(self) -> float:
        """Training FLOPs per token: 6 x matmul parameters + 12 x layers x d_model x length.

        The usual MFU convention (PaLM, nanoGPT, llm-foundry): attention counted over the full square, not the causal
        half; position and token lookups do no matmul, the tied head does.
        """
        matmul = self.n_layers * (4 + 2 * self.expansion_ratio) * self.d_model**2 + self.vocab_size * self.d_model
        return 6 * matmul + 12 * self.n_layers * self.d_model * self.max_seq_len

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for the checkpoint's manifest."""
        return asdict(self)
