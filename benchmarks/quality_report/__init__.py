"""The parts of the quality report (``benchmarks/quality.py``), one question each."""
