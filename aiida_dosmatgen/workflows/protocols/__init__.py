"""Protocols of the work chains: YAML files, and what reads them."""
