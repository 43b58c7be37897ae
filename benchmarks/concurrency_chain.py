"""The work chain of ``concurrency.py``, in a module that a daemon can import."""

from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import while_

from aiida_dosmatgen.workflows.validate import ValidateWorkChain
from aiida_dosmatgen.workflows.windows import SlidingWindowWorkChain


class ValidateAllWorkChain(SlidingWindowWorkChain):
    """Validate silicon of many volumes in a window, as a campaign does its candidates."""

    @classmethod
    def define(cls, spec):
        """Define inputs, outline and outputs."""
        super().define(spec)
        spec.expose_inputs(ValidateWorkChain, namespace="validate", exclude=("structure",))
        spec.input("lattice_constants", valid_type=orm.List)
        spec.input("max_concurrent", valid_type=int, non_db=True)
        spec.outline(
            cls.setup,
            cls.open_window,
            while_(cls.left)(while_(cls.may_start)(cls.start_next), cls.wait_for_one, cls.inspect),
        )

    def setup(self):
        """Begin with the first."""
        self.ctx.next = 0

    def left(self):
        """Say whether there is something to do or to wait for."""
        return self.may_start() or bool(self.ctx.running)

    def may_start(self):
        """Say whether the next can be begun."""
        return self.has_capacity() and self.ctx.next < len(self.inputs.lattice_constants)

    def start_next(self):
        """Validate the next crystal."""
        from ase.build import bulk

        inputs = AttributeDict(self.exposed_inputs(ValidateWorkChain, "validate"))
        inputs.structure = orm.StructureData(ase=bulk("Si", "diamond", a=self.inputs.lattice_constants[self.ctx.next]))
        inputs.metadata.call_link_label = f"validate_{self.ctx.next}"
        self.add_child(f"validate_{self.ctx.next}", self.submit(ValidateWorkChain, **inputs))
        self.ctx.next += 1

    def inspect(self):
        """Collect what has ended."""
        self.collect()
