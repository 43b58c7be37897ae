"""Jobs of the executable ``dosmatgen``, and calcfunctions.

Begin with :mod:`.base`, which says what all jobs share: each is one command with a job file, made from the inputs. The models
of :mod:`..core.job` are the job files and, by :mod:`.ports`, the ports. The choices between jobs are in :mod:`.functions`.
"""
