"""The science that runs on the compute node as ``dosmatgen …`` (torch, no AiiDA)."""
