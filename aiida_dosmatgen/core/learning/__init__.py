"""Learning from what DFT found: which results enter a training set, what is rehearsed, which checkpoint is kept, when to stop.

Begin with :mod:`.settings`. :mod:`.gate` says of each DFT result whether it enters and why, :mod:`.extending` adds what entered
to a labelled set and chooses what is trained on, :mod:`.rounds` compares checkpoints and sums up a round.
"""
