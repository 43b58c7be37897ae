"""Scheduler plugins: one that runs many small jobs in one Slurm allocation.

Begin with :mod:`.allocation`, the plugin. What it does on the cluster is in the shell script ``allocation.sh``.
"""
