"""Our scores and lm-eval's, of the same questions and models: `python -m benchmarks referee`."""
