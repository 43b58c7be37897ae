"""Of nodes: fields that queries know, and inputs that a hash leaves out."""

from __future__ import annotations

from typing import cast

from aiida.common.folders import Folder
from aiida.orm import ProcessNode
from aiida.orm.nodes.process.process import ProcessNodeCaching
from aiida.orm.pydantic import OrmMetadataField

__all__ = ("Folder", "OrmMetadataField", "leave_out_of_hash")


def leave_out_of_hash(node: ProcessNode, label: str) -> None:
    """Leave an input out of the hash by which AiiDA's cache finds a job; before the node is stored.

    aiida-core has this rule for classes of nodes only, not for those of jobs, and a class of nodes of our own could not be
    read without this package. So the rule holds when a job is stored, and that is when the hash is kept. Computed again later
    (``verdi node rehash``), the hash has the input: the cache then finds the job by equal inputs only, which is never wrong.
    """
    caching = cast(ProcessNodeCaching, node.base.caching)
    caching._hash_ignored_inputs = [*caching._hash_ignored_inputs, label]
