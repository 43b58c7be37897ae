"""Train a MACE force field on many frames by this package's own loop: from a teacher's labels, and from DFT's after that.

Begin with :mod:`.train`. The frames are made by :mod:`.frames`. The network (:mod:`.network`) is MACE's, in a form that trains
faster; :mod:`.graphs` makes its inputs, and :mod:`.objective` says what is minimised.
"""
