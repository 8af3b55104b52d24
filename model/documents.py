"""Attention within documents: in a packed sequence no token sees a text before its own."""

from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask


def document_numbers(input_ids: Tensor, end_of_text: int) -> Tensor:
    """B T → B T, int64: how many documents have ended before each token. The token that ends one belongs to it."""
    ends = (input_ids == end_of_text).long()
    return ends.cumsum(1) - ends


def document_mask(input_ids: Tensor, end_of_text: int) -> BlockMask:
    """A causal mask within documents for FlexAttention, which skips the blocks that it empties.

    Its shapes are those of the batch whatever documents are in it, so that nothing is compiled anew.
    """
    numbers = document_numbers(input_ids, end_of_text)

    def visible(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & (numbers[batch, query] == numbers[batch, key])

    B, T = input_ids.shape
    return create_block_mask(visible, B, None, T, T, device=str(input_ids.device))
