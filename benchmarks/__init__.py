"""What is measured, each with its command: ``python -m benchmarks NAME``."""
