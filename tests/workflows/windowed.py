"""Work chains of the tests, in a module that a daemon can import, and commands of their jobs."""

from pathlib import Path

from aiida import orm
from aiida.calculations.arithmetic.add import ArithmeticAddCalculation
from aiida.engine import while_

from aiida_dosmatgen.workflows.campaign import CampaignWorkChain
from aiida_dosmatgen.workflows.windows import SlidingWindowWorkChain


def slow_until(path: Path) -> str:
    """Return a command that ends when a file is there."""
    return f"until [ -e {path} ]; do sleep 0.1; done"


def count_in_window(log: Path, number: int) -> str:
    """Return a command of a :class:`WindowedWorkChain` that notes its begin, and its end when all in the window have begun.

    So it meets whatever else the chain submits, however slow the machine is. After five minutes it gives up.

    :param number: of the command among those of this log, from 0.
    """
    full = f"read n < {window_of(log)} && [ $n -gt {number} ] && [ $(grep -c + {log}) -ge $n ]"
    wait = f"for i in $(seq 3000); do if {{ {full}; }} 2> /dev/null; then break; fi; sleep 0.1; done"
    return f"echo + >> {log}; trap 'echo - >> {log}' EXIT; {wait}"


def window_of(log: Path) -> Path:
    """Return the file in which a chain says how many commands of a log it has submitted when its window was full."""
    return log.with_suffix(".window")


def count_inside(log: Path, company: int = 1) -> str:
    """Return a command that notes its begin, and its end two seconds later: for what cannot tell when it is full.

    :param company: how many of these commands must have begun before any ends.
    """
    begun = f"until [ $(grep -c + {log}) -ge {company} ]; do sleep 0.1; done"
    return f"echo + >> {log}; trap 'echo - >> {log}' EXIT; {begun}; sleep 2"


def most_at_once(log: Path) -> int:
    """Return how many of those commands were under way together."""
    inside = most = 0
    for sign in log.read_text().split():
        inside += 1 if sign == "+" else -1
        most = max(most, inside)
    return most


class WindowedWorkChain(SlidingWindowWorkChain):
    """Run shell commands as jobs, at most ``max_concurrent`` at a time; ``log`` is that of :func:`count_in_window`."""

    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.input("code", valid_type=orm.AbstractCode)
        spec.input("commands", valid_type=orm.List)
        spec.input("max_concurrent", valid_type=int, non_db=True)
        spec.input("log", valid_type=str, non_db=True, required=False)
        spec.outline(
            cls.setup,
            cls.open_window,
            while_(cls.left)(while_(cls.may_start)(cls.start_next), cls.wait_for_one, cls.inspect),
            cls.finish,
        )
        spec.output("ended", valid_type=orm.List)

    def setup(self):
        self.ctx.next = 0
        self.ctx.ended = []

    def left(self):
        return self.may_start() or bool(self.ctx.running)

    def may_start(self):
        return self.has_capacity() and self.ctx.next < len(self.inputs.commands)

    def start_next(self):
        node = self.submit(
            ArithmeticAddCalculation,
            code=self.inputs.code,
            x=orm.Int(self.ctx.next),
            y=orm.Int(0),
            metadata={
                "options": {"prepend_text": self.inputs.commands[self.ctx.next], "withmpi": False},
                "call_link_label": f"job_{self.ctx.next}",
            },
        )
        self.add_child(f"job_{self.ctx.next}", node)
        self.ctx.next += 1

    def wait_for_one(self):
        if "log" in self.inputs:
            begun = self.inputs.commands.get_list()[: self.ctx.next]
            window = window_of(Path(self.inputs.log))
            partial = window.with_suffix(".partial")
            partial.write_text(f"{sum(self.inputs.log in command for command in begun)}\n")
            partial.replace(window)
        super().wait_for_one()

    def inspect(self):
        assert len(self.ctx.running) <= self.inputs.max_concurrent
        self.ctx.ended += [node.outputs.sum.value for node in self.collect().values()]

    def finish(self):
        self.out("ended", orm.List(self.ctx.ended).store())


class CampaignOfGivenCandidates(CampaignWorkChain):
    """A campaign whose candidates were made before, by the work chain of the given uuid."""

    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.input("given", valid_type=orm.Str)

    def run_candidates(self):
        self.add_child(self.ctx.order[self.ctx.next_target], orm.load_node(self.inputs.given.value))
        self.ctx.next_target += 1
