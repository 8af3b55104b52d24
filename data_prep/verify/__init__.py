"""Reading everything back from where it was written, and checking it."""
