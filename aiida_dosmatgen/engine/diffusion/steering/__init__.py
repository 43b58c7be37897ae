"""How the steps back are steered: towards a target (:mod:`.guidance`), and to what is held (:mod:`.constraints`).

A guidance gives predictions to the solver, constraints replace parts of them. :mod:`.transport` finds the probabilities of the
elements that are nearest to the predicted ones and have an exact composition.
"""
