"""The parts of :class:`~aiida_dosmatgen.workflows.learn.LearnWorkChain`: its inputs, the steps of a round, and its children."""
