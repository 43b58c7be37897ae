"""What is read off the graph: rankings, lineages, what models learnt from, progress and waiting; and exports.

The classes in :mod:`.workflows` offer it as ``node.tools``. Begin with :mod:`.lineage`.
"""
