"""From the files of a job to its outputs; one parser for each job. Begin with :mod:`.base`, which says when there are any."""
