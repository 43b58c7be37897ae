"""What ``node.tools`` offers on the work chains of this package (entry points ``aiida.tools.workflows``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiida import orm
from aiida.tools import WorkflowTools

from .learning import format_rounds, rounds_of
from .lineage import Lineage, lineage
from .ranking import best_of, format_ranking, ranking_of

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes


class ValidateTools(WorkflowTools):
    """For a ``ValidateWorkChain``."""

    def lineage(self) -> Lineage:
        """Return where the validated candidate comes from."""
        return lineage(self._node)


class CampaignTools(WorkflowTools):
    """For a ``CampaignWorkChain``."""

    def ranking(self) -> dict[str, list[dict[str, Any]]]:
        """Return the rows of each target, best first."""
        return ranking_of(self._node)

    def table(self, limit: int | None = 20) -> str:
        """Return the ranking as text."""
        return format_ranking(self._node, limit)

    def best(self) -> dict[str, Any] | None:
        """Return the row with the smallest DFT distance to its target, or None."""
        return best_of(self._node)

    def lineage(self, target: str | None = None, candidate: int | None = None) -> Lineage:
        """Return where a candidate comes from; by default the best one.

        :raises ValueError: if there is no such candidate, or it was not validated.
        """
        for name, rows in ranking_of(self._node).items():
            for row in rows:
                wanted = candidate is not None and row["candidate"] == candidate and target in (None, name)
                if wanted and "validation" in row:
                    return lineage(orm.load_node(row["validation"]))
        if candidate is not None:
            raise ValueError(f"candidate {candidate} was not validated in this campaign")
        best = self.best()
        if best is None:
            raise ValueError("no candidate of this campaign was validated")
        return lineage(orm.load_node(best["validation"]))

    def to_dataframe(self) -> pandas.DataFrame:
        """Return the ranking as a table, one row for each ranked crystal of each target; see :func:`.dataframe_of`."""
        from .frame import dataframe_of

        return dataframe_of(self._node)

    def plot_dos(self, target: str | None = None, candidate: int | None = None, axes: Axes | None = None) -> Axes:
        """Draw the target, the predicted and the DFT curve of a crystal; by default of the best one.

        :param target: its name; needed only if several targets have a candidate of this number.
        :param axes: to draw on; new ones by default.
        :raises ValueError: if there is no such candidate.
        """
        from .plot import plot_dos

        return plot_dos(self._node, target, candidate, axes)


class LearnTools(WorkflowTools):
    """For a ``LearnWorkChain``."""

    def rounds(self) -> list[dict[str, Any]]:
        """Return the summaries of the rounds."""
        return rounds_of(self._node)

    def table(self) -> str:
        """Return the rounds as text."""
        return format_rounds(self._node)
