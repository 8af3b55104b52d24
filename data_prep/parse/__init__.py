"""From XML to rows: one record, one row, nothing lost and nothing decided."""
