"""Files of crystals that other programs write.

Begin with :func:`.structures.read_structures`, which reads all that ``pymatgen`` and ``ase`` know. :mod:`.vasp4` completes old
POSCAR files; :mod:`.labels` reads crystals with densities of states, energies and forces.
"""
