"""Parts of benchmarks/forcefields.py."""
