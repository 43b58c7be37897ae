"""The base of the engine and the AiiDA side: crystals, densities of states, thermochemistry, job files (without torch).

Begin with :mod:`.crystals`, :mod:`.dos` and :mod:`.curves`, which nearly all else takes or returns. Continue with the packages:
:mod:`.target` is what is asked for, :mod:`.job` what a job is told, :mod:`.labelled` what models learn from, :mod:`.screening`
which candidates are kept.
"""
