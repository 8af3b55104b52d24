"""A training YAML as a job of a cluster: ``python -m recipes.launch FORM YAML …``."""
