"""A row that branches gives the logits of its continuations, each read alone after the whole of its text."""

import torch

from model.branches import Beginning, Branches
from model.config import GPTConfig
from model.gpt import GPT, initialize

CONFIG = GPTConfig(
    vocab_size=90, max_seq_len=16, d_model=32, n_heads=2, n_layers=3, initializer_range=0.3,
    scale_attn_by_inverse_layer_idx=True,
)  # fmt: skip
BEGINNING, OWN, FIRST, SECOND = [3, 1, 4, 1, 5], [9, 2, 6], [5, 3, 5], [8, 9, 7, 9]


def test_a_branched_row_after_a_beginning_gives_the_logits_of_each_text_read_alone() -> None:
    gpt = GPT(CONFIG).eval()
    initialize(gpt, seed=3)
    kept, past, own = Beginning(), len(BEGINNING), len(OWN)
    row = [*OWN, *FIRST, *SECOND]
    places = [*range(past, past + own + len(FIRST)), *range(past + own, past + own + len(SECOND))]
    sees = torch.ones(len(row), past + len(row), dtype=torch.bool).tril(past)
    sees[own + len(FIRST) :, past + own : past + own + len(FIRST)] = False  # the second does not see the first
    with torch.no_grad():
        nothing = torch.tensor([0])
        whole = torch.ones(past, past, dtype=torch.bool).tril()[None, None]
        gpt(torch.tensor([BEGINNING]), positions=nothing, branches=Branches(torch.arange(past)[None], whole, keep=kept))
        assert kept.length == past and len(kept.keys) == CONFIG.n_layers
        branches = Branches(torch.tensor([places, places]), sees[None, None].expand(2, 1, -1, -1), kept)
        ids = torch.tensor([row, row])
        asked = torch.tensor([2, 5, 9, 10 + 5, 10 + 9])  # of both rows, counted through them
        found = gpt(ids, positions=asked, branches=branches)
        alone = [gpt(torch.tensor([[*BEGINNING, *OWN, *branch]]))[0] for branch in (FIRST, SECOND)]
    expected = [alone[0][past + own - 1], alone[0][-1], alone[1][-1], alone[0][-1], alone[1][-1]]
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-5, rtol=1e-5)
    assert len(places) == 10 and max(places) < CONFIG.max_seq_len <= past + len(row) + 1
