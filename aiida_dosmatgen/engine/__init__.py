"""The science that runs on the compute node as ``dosmatgen …`` (torch, no AiiDA).

Begin with :mod:`.cli`, which reads the job file, and with the module of a command in :mod:`.commands`. Each leads into one of
:mod:`.diffusion`, :mod:`.relaxation`, :mod:`.prediction`, :mod:`.training` and :mod:`.labelling`, which say where to continue.
"""
