"""Runs that are killed and disturbed, against the run that was not."""
