"""Jobs that ended, for the work chains that inspect them."""

from aiida import orm
from aiida.common.links import LinkType


def job(process_label, exit_status, exit_message=None, **outputs):
    """Return a stored job that ended, with outputs."""
    node = orm.CalcJobNode()
    node.set_process_label(process_label)
    node.set_process_state("finished")
    node.set_exit_status(exit_status)
    node.set_exit_message(exit_message)
    node.store()
    for label, output in outputs.items():
        output.base.links.add_incoming(node, link_type=LinkType.CREATE, link_label=label)
        output.store()
    return node
