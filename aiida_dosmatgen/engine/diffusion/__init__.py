"""The diffusion model, from noise to crystals that have a given density of states.

Begin with :mod:`.noise` and :mod:`.lattice` (how crystals are noised). Continue with :mod:`.noised` and :mod:`.denoiser` (what
the networks of :mod:`.network` and :mod:`.conditioning` predict) and :mod:`.solver` (the steps back for one batch).
:mod:`.condition` is what is asked of crystals; :mod:`.augmentation` thins it out and varies it in training. :mod:`.steering`
changes the steps back: guidance, by the :mod:`.classifier` among others, and constraints. :mod:`.sizes` gives p(N given the
curve); :mod:`.candidates` says which candidates there are, and :mod:`.sampler` makes them.
"""
