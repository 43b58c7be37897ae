"""From a density of states to DFT-validated crystals, with full provenance, on AiiDA."""

__version__ = "0.3.0"
