"""Training: from labelled crystals to a model.

Begin with :mod:`.networks`, which turns the files of a job (:mod:`.data`) into a checkpoint with its header (:mod:`.header`),
and :mod:`.loop`, which trains any model that has an objective and can be stopped and continued (:mod:`.state`). The objectives
are in :mod:`.denoiser`, :mod:`.classifier`, :mod:`.predictor` and :mod:`.tightbinding`. :mod:`.dataset` reads labelled crystals
and makes batches of them, :mod:`...core.labelled.splits` says which are kept for validation and tests, :mod:`.pseudolabels`
adds crystals with predicted curves. :mod:`.forcefield` trains a force field with MACE's own trainer (:mod:`.mace`).
"""
