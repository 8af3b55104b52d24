"""Stage ``card``: ``OUT/card.html``, ``OUT/card.md`` and ``OUT/card.json`` tell what the corpus in ``OUT`` is.

All three are made from the same numbers (:mod:`data_prep.card.facts`) and say the same; the page has the plots, the
Markdown has the front matter that the Hugging Face hub reads.
"""

import json
from typing import Any

from base.progress import say
from base.storage import join, write_bytes
from data_prep.card.facts import gather, shown_configuration
from data_prep.stage import Job, Stage

VERSION = 4  # raise it when the card tells something else, or in another way
PAGE, TEXT, NUMBERS = "card.html", "card.md", "card.json"


def run(job: Job) -> dict[str, Any]:
    """Gather the numbers and write them in the three forms."""
    from base.page import html_page, markdown
    from data_prep.card.content import blocks, front_matter  # imports matplotlib

    facts = gather(job)
    content = blocks(facts)
    numbers = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
    write_bytes(str(job.local / PAGE), html_page(content).encode())
    write_bytes(str(job.local / TEXT), (front_matter(facts) + markdown(content)).encode())
    write_bytes(str(job.local / NUMBERS), numbers.encode())
    totals = {name: sum(source[name] for source in facts["sources"].values()) for name in ("documents", "tokens")}
    say(f"card: {totals['documents']:,} documents, {totals['tokens']:,} tokens; see {join(job.out, PAGE)}")
    return totals


def depends_on(job: Job) -> Any:
    """The settings that the card shows, and the tokenizer's report; the rest is decided by the stages before."""
    return [VERSION, shown_configuration(job.configuration), job.marker("tokenizer").get("summary")]


STAGE = Stage(
    "card", needs=("select", "tokenizer", "shards"), depends_on=depends_on, run=run, outputs=(PAGE, TEXT, NUMBERS)
)
