"""Models of transformers with other caches, arguments and precisions than GPT-2's are scored, or refused by name."""

from collections.abc import Callable

import pytest
import torch
from transformers import (
    BertConfig,
    BertLMHeadModel,
    CohereConfig,
    CohereForCausalLM,
    DynamicCache,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MptConfig,
    MptForCausalLM,
    OpenAIGPTConfig,
    OpenAIGPTLMHeadModel,
    PreTrainedModel,
    XGLMConfig,
    XGLMForCausalLM,
)

from base.errors import UserError
from eval.prompts import Encoded
from eval.scoring import log_likelihoods
from eval.transformers_scorer import TransformersScorer, _copies, _each

SHAPE = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
UNCOMMON: dict[str, Callable[[], PreTrainedModel]] = {
    "a cache that takes no empty one": lambda: XGLMForCausalLM(
        XGLMConfig(vocab_size=97, d_model=32, num_layers=2, attention_heads=2, ffn_dim=48)
    ),
    "a cache of tuples": lambda: MptForCausalLM(
        MptConfig(vocab_size=97, d_model=32, n_layers=2, n_heads=2, max_seq_len=128)
    ),
    "no argument use_cache": lambda: OpenAIGPTLMHeadModel(
        OpenAIGPTConfig(vocab_size=97, n_embd=32, n_layer=2, n_head=2, n_positions=128)
    ),
    "a body without the common name": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(**SHAPE, num_key_value_heads=1, head_dim=16, sliding_window=16, sliding_window_pattern=2)
    ),
}


def made(make: Callable[[], PreTrainedModel]) -> PreTrainedModel:
    torch.manual_seed(0)
    model = make().eval()
    with torch.no_grad():  # fresh models give nearly equal logits
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(4)
    return model


def questions() -> list[Encoded]:
    """After a common beginning, some of one length, with options of one token and of several."""
    generator = torch.Generator().manual_seed(1)

    def ids(number: int) -> tuple[int, ...]:
        return tuple(torch.randint(3, 97, (number,), generator=generator).tolist())

    shots = ids(20)
    lengths = [(7, (1, 1, 1)), (7, (3, 1, 5)), (30, (1, 4)), (7, (2, 2))]
    return [
        Encoded(str(number), shots + ids(own), tuple(map(ids, options)))
        for number, (own, options) in enumerate(lengths)
    ]


@pytest.mark.parametrize("which", UNCOMMON)
def test_a_model_with_uncommon_interfaces_is_scored_as_its_own_forward_has_it(which: str) -> None:
    model = made(UNCOMMON[which])
    found = log_likelihoods(questions(), TransformersScorer(model), batch_size=3)
    for one in questions():
        for option, value in zip(one.options, found[one.id], strict=True):
            with torch.no_grad():
                rows = model(torch.tensor([[*one.given, *option]])).logits[0].log_softmax(-1)
            start = len(one.given) - 1
            expected = sum(float(rows[start + place, token]) for place, token in enumerate(option))
            assert value == pytest.approx(expected, abs=1e-3)


def test_a_model_that_sees_the_answers_is_refused() -> None:
    """BERT's kind has a causal class in transformers, which attends to both sides unless it is told not to."""
    with pytest.raises(UserError, match="BertLMHeadModel sees the tokens after a place"):
        TransformersScorer(made(lambda: BertLMHeadModel(BertConfig(**SHAPE))))
    TransformersScorer(made(lambda: BertLMHeadModel(BertConfig(**SHAPE, is_decoder=True))))


def test_the_cache_is_shared_in_the_precision_of_training_too() -> None:
    scorer = TransformersScorer(made(lambda: LlamaForCausalLM(LlamaConfig(**SHAPE))))
    with torch.autocast("cpu", torch.bfloat16):
        log_likelihoods(questions(), scorer, batch_size=3)
    assert scorer.has_cache


def test_a_model_that_does_more_than_project_gives_logits_of_the_last_places_alone() -> None:
    model = made(lambda: CohereForCausalLM(CohereConfig(**SHAPE, logit_scale=20.0)))
    scorer = TransformersScorer(model)
    log_likelihoods(questions(), scorer, batch_size=3)  # and tries the cache
    places: list[int] = []
    model.lm_head.register_forward_hook(lambda module, given, out: places.append(out.shape[1]))
    log_likelihoods(questions(), scorer, batch_size=3)
    assert not scorer.projects and max(places) <= max(len(option) for one in questions() for option in one.options)


def test_sharing_a_cache_copies_none_of_it() -> None:
    """Sixteen questions' caches of a large model take most of a GPU: sixteen copies of all of them do not fit."""
    cache = DynamicCache()
    for layer in range(2):
        cache.update(torch.randn(16, 2, 5, 4), torch.randn(16, 2, 5, 4), layer)
    for row in _each(cache, 16):
        for layer, (k, v) in enumerate(_copies(row, 4)):
            assert k.shape == v.shape == (4, 2, 5, 4)
            assert k.untyped_storage().data_ptr() == cache[layer][0].untyped_storage().data_ptr()
            assert v.untyped_storage().data_ptr() == cache[layer][1].untyped_storage().data_ptr()
