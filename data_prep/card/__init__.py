"""The data card: what is in the corpus, what is not and why, as a page, as text and as numbers."""
