"""From rows to documents: every rule by which a record is kept or dropped."""
