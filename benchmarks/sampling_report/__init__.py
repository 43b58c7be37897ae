"""The parts of the sampling benchmark (``benchmarks/sampling.py``), one question each."""
