"""Attention within documents sees a document whole, and nothing of the ones before it."""

import pytest
import torch

from model.config import GPTConfig
from model.documents import document_numbers
from model.gpt import GPT, initialize

END, T = 0, 256  # FlexAttention's blocks have 128 tokens


def model(end_of_text: int | None, **changes: float) -> GPT:
    none = {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}
    config = GPTConfig(
        vocab_size=50, max_seq_len=T, d_model=32, n_heads=2, n_layers=3, initializer_range=0.2, **none | changes
    )
    gpt = GPT(config, end_of_text=end_of_text)
    initialize(gpt, seed=4)
    return gpt


@pytest.fixture
def ids():
    return torch.randint(1, 50, (2, T), generator=torch.Generator().manual_seed(1))  # END is not among them


def test_a_document_s_end_belongs_to_it():
    row = torch.tensor([[5, END, 6, 7, END, END, 8]])
    assert document_numbers(row, END).tolist() == [[0, 0, 1, 1, 1, 2, 3]]


def test_one_document_is_trained_as_without_the_mask(ids):
    plain, within = model(None), model(END)
    losses = [gpt(ids, labels=ids) for gpt in (plain, within)]
    for loss in losses:
        loss.backward()
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=0)
    for ours, theirs in zip(within.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5)


def test_what_stands_before_a_document_changes_nothing_in_it(ids):
    ids[:, 150] = END
    labels = ids.clone()
    labels[:, :152] = -100  # of the second document only; its first token is asked of the end before it
    other = ids.clone()
    other[:, :150] = other[:, :150] % 49 + 1
    for end, same in ((END, True), (None, False)):
        gpt = model(end)
        with torch.no_grad():
            assert gpt(ids, labels=labels).equal(gpt(other, labels=labels)) is same


def test_dropout_of_attention_is_refused_with_it():
    with pytest.raises(ValueError, match=r"attn_pdrop is 0\.1"):
        model(END, attn_pdrop=0.1)
