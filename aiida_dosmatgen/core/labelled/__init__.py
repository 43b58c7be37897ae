"""Sets of labelled crystals: how they grow, what is kept for tests, and what is in them.

Begin with :mod:`.shards`, a set that grows and is never written again. :mod:`.prototypes` names the structure of a crystal,
:mod:`.splits` says by names alone what is kept for tests, and :mod:`.leak` measures how near that is to what models learn from.
"""
