"""Question-answering tasks, scoring and statistics, for any model that turns ids into logits."""
