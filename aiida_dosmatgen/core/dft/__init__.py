"""How Quantum ESPRESSO is run, and what its bands say.

Begin with ``recipe.py`` and ``bands.py``; ``settings.py`` has what the labels of the twelve-element set were computed with.
"""
