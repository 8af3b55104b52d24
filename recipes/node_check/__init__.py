"""Looks at every node before a job is started on it; names the one that would spoil it."""
