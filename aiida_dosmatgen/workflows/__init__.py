"""Work chains, from one job that is repeated to a loop of campaigns; their protocols are in :mod:`.protocols`.

Begin with :mod:`.campaign`, which calls :mod:`.candidates` and :mod:`.validate`; :mod:`.learn` runs one campaign after the
other, :mod:`.dos` computes one crystal and :mod:`.label` many. What is repeated after an interruption says :mod:`.retries`.
"""
