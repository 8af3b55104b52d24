"""train.py, counting how often each block runs forward: ``count_forwards.py OUT YAML key=value …``, by a launcher."""

import json
import sys
from collections import Counter
from pathlib import Path

from torch import Tensor

import train
from model.gpt import Block

if __name__ == "__main__":
    out = Path(sys.argv.pop(1))
    forward, counts = Block.forward, Counter[int]()

    def counted(block: Block, x: Tensor, layer: Tensor, documents: None = None) -> Tensor:
        counts[int(layer)] += 1
        return forward(block, x, layer, documents)

    Block.forward = counted  # type: ignore[method-assign]
    train.main()
    out.write_text(json.dumps([counts[layer] for layer in sorted(counts)]))
