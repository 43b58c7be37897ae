"""What work chains and jobs redefine of AiiDA's processes."""

import inspect

import pytest
from aiida.engine import Process
from aiida.plugins.entry_point import get_entry_point_names, load_entry_point

PROCESSES = [
    process
    for group in ("aiida.calculations", "aiida.workflows")
    for name in get_entry_point_names(group)
    if name.startswith("dosmatgen.") and inspect.isclass(process := load_entry_point(group, name))
]


@pytest.mark.parametrize("process", PROCESSES, ids=lambda cls: cls.__name__)
def test_a_method_of_aiida_is_redefined_with_its_parameters(process):
    """As plumpy ends a process by its own method ``fail(exception, trace_back)``, no method of ours may be called so."""
    assert issubclass(process, Process)
    theirs = [cls for cls in process.__mro__ if not cls.__module__.startswith("aiida_dosmatgen")]
    for cls in set(process.__mro__) - set(theirs):
        for name, method in vars(cls).items():
            former = next((vars(other)[name] for other in theirs if name in vars(other)), None)
            if inspect.isfunction(method) and inspect.isfunction(former) and not name.startswith("__"):
                assert _parameters(method) == _parameters(former), f"{cls.__name__}.{name}"


def _parameters(method):
    parameters = inspect.signature(method).parameters
    return [name for name, parameter in parameters.items() if parameter.kind <= parameter.POSITIONAL_OR_KEYWORD]
