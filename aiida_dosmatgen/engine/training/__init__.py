"""Training: from labelled crystals to a model.

Begin with :mod:`.loop`, which trains any model that has an objective and can be stopped and resumed. :mod:`.dataset` makes
batches of labelled crystals, :mod:`.splits` says which are kept for validation and tests, :mod:`.pseudolabels` adds crystals
with predicted curves. :mod:`.denoiser` is the objective of a denoiser; :mod:`.forcefield` trains a force field with MACE's own
trainer.
"""
