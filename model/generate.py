"""Continue a text.

python -m model.generate --model exported --prompt "The patient was given"
"""

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from base.errors import UserError, run_command

if TYPE_CHECKING:  # torch takes seconds to import; --help does not wait for it
    from model.gpt import GPT


def generate(model: "GPT", ids: list[int], max_new_tokens: int, temperature: float, seed: int) -> Iterator[int]:
    """Yield the ids that follow ``ids``; the most likely ones at temperature 0, else drawn.

    Beyond the learned positions the oldest tokens drop out of sight.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    for _ in range(max_new_tokens):
        window = torch.tensor([ids[-model.config.max_seq_len :]])  # 1 T
        with torch.inference_mode():
            logits = model(window, positions=torch.tensor([[window.shape[1] - 1]]))[0, 0]  # V
        if temperature == 0:
            following = int(logits.argmax())
        else:
            following = int(torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator))
        ids = [*ids, following]
        yield following


def continuation(location: str, prompt: str, max_new_tokens: int, temperature: float, seed: int) -> str:
    """The text that the model at ``location`` writes after ``prompt``, up to the end of the document.

    An empty prompt starts a new document.
    """
    from model.load import open_model

    with open_model(location) as loaded:
        ids = loaded.tokenizer.encode(prompt, add_special_tokens=False).ids or [loaded.end_of_text]
        new: list[int] = []
        for following in generate(loaded.model, ids, max_new_tokens, temperature, seed):
            if following == loaded.end_of_text:
                break
            new.append(following)
        return loaded.tokenizer.decode(new)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="an exported folder, or a checkpoint (local or s3://)")
    parser.add_argument("--prompt", default="", help="the beginning of the text; empty: of a new document")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--temperature", type=float, default=0.0, help="0: always the most likely token")
    parser.add_argument("--seed", type=int, default=17)
    arguments = parser.parse_args()
    if arguments.temperature < 0:
        raise UserError(f"--temperature {arguments.temperature}: must not be negative")
    print(
        arguments.prompt
        + continuation(
            arguments.model, arguments.prompt, arguments.max_new_tokens, arguments.temperature, arguments.seed
        )
    )


if __name__ == "__main__":
    run_command(main)
