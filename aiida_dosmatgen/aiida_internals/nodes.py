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

    aiida-core has this rule for classes of nodes only, not for those of jobs. Nodes of a class of our own could not be read
    without this package, and an input that is not stored (``non_db``) is missing in the graph. So the rule is applied to the
    node before it is stored, which is when the hash is kept. Computed again later (``verdi node rehash``), the hash has the
    input. No job has the same then, as each leaves the input out when it is stored: the cache finds the node no more, which
    costs a run, and is never wrong.
    """
    caching = cast(ProcessNodeCaching, node.base.caching)
    caching._hash_ignored_inputs = [*caching._hash_ignored_inputs, label]
