"""Training data: crystals to compute, and their labels by Quantum ESPRESSO.

Begin with :mod:`.prototypes`, which fills known structures with elements and distorts them (:mod:`.distortions`); :mod:`.pwscf`
runs pw.x and projwfc.x on crystals and keeps a record of each.
"""
