"""How Quantum ESPRESSO is run, and what its bands say.

Begin with ``recipe.py`` and ``bands.py``; ``settings.py`` has what the labels of the shipped models were computed with.
"""
