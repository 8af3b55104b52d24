"""A run: its typed configuration, the builders of Composer objects, the callbacks, the quickstart."""
