"""The diffusion model, from noise to crystals that have a given density of states.

Begin with :mod:`.noise` and :mod:`.lattice` (how crystals are noised). Continue with :mod:`.noised` and :mod:`.denoiser` (what
the networks of :mod:`.network` and :mod:`.conditioning` predict) and :mod:`.solver` (the steps back for one batch).
:mod:`.steering` changes these steps: guidance, by the :mod:`.classifier` among others, and constraints. :mod:`.sizes` gives
p(N given the curve); :mod:`.candidates` says which candidates there are, and :mod:`.sampler` makes them.
"""
