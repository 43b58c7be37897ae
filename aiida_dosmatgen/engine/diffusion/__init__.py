"""The diffusion model, from noise to crystals that have a given density of states.

Begin with :mod:`.noise` and :mod:`.lattice` (how crystals are noised), go on with :mod:`.denoiser` (what the networks of
:mod:`.network` and :mod:`.conditioning` predict) and :mod:`.solver` (the steps back for one batch). :mod:`.guidance` and
:mod:`.constraints` (with :mod:`.transport`) steer these steps, :mod:`.sizes` gives the number of atoms, and :mod:`.sampler`
makes candidates of all this.
"""
