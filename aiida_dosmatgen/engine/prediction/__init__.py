"""Predictions for a crystal: its density of states, its formation energy, and their uncertainties.

Begin with :mod:`.predictor`, an ensemble of networks on the surroundings of atoms (:mod:`.environment`) that starts from tight
binding (:mod:`.tightbinding`). :mod:`.calibration` and :mod:`.novelty` give the uncertainty. :mod:`.predict` applies a trained
predictor to a set of crystals.
"""
