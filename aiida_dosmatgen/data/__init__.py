"""Nodes: targets, crystals with or without labels, checkpoints, force fields. No torch.

Begin with :mod:`.base`: a node is one file, with attributes that are read from it and that queries know.
"""
