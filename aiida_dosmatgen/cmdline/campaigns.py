"""Campaigns as arguments."""

from __future__ import annotations

from typing import Any

import click
from aiida.cmdline import WorkflowParamType, with_dbenv
from click.shell_completion import CompletionItem

from ..core.errors import ContentError

PROCESS_TYPE = "aiida.workflows:dosmatgen.campaign"


def is_campaign(node: Any) -> bool:
    """Tell whether a node is a campaign."""
    return getattr(node, "process_type", None) == PROCESS_TYPE


class WorkChainType(WorkflowParamType):
    """A work chain by pk, uuid or label; the shell completes the newest campaigns."""

    name = "work chain"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the node."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as exception:
            if "multiple" in str(exception).lower():
                self.fail(f"several nodes are called {value!r}; give the pk of one", param, ctx)
            self.fail(f"{value!r} is not the pk, uuid or label of a {self.name}; verdi process list -a shows them", param, ctx)

    @with_dbenv()
    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Offer the campaigns, newest first."""
        return [
            CompletionItem(str(node.pk), help=f"{node.process_state.value if node.process_state else ''} {node.label}".strip())
            for node in campaigns(limit=20)
            if str(node.pk).startswith(incomplete)
        ]


def is_loop(node: Any) -> bool:
    """Tell whether a node is a loop that learns."""
    return getattr(node, "process_type", None) == "aiida.workflows:dosmatgen.learn"


class CampaignType(WorkChainType):
    """A campaign by pk, uuid or label."""

    name = "campaign"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the campaign's node."""
        node = super().convert(value, param, ctx) if isinstance(value, str) else value
        if not is_campaign(node):
            self.fail(
                f"{node.process_label or type(node).__name__}<{node.pk}> is no campaign; give a CampaignWorkChain", param, ctx
            )
        return node


class ReportedType(WorkChainType):
    """A campaign, or a loop that learns, by pk, uuid or label."""

    name = "campaign or loop"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return its node."""
        node = super().convert(value, param, ctx) if isinstance(value, str) else value
        if not is_campaign(node) and not is_loop(node):
            self.fail(
                f"{node.process_label or type(node).__name__}<{node.pk}> is no campaign; give a CampaignWorkChain or a "
                "LearnWorkChain",
                param,
                ctx,
            )
        return node


WORK_CHAIN = WorkChainType()
REPORTED = ReportedType()
CAMPAIGN = CampaignType()


def campaigns(limit: int | None = None) -> list[Any]:
    """Return the campaigns of this profile, newest first."""
    from aiida.orm import QueryBuilder, WorkChainNode

    query = QueryBuilder().append(WorkChainNode, filters={"process_type": PROCESS_TYPE}, tag="node")
    query.order_by({"node": {"id": "desc"}})
    if limit is not None:
        query.limit(limit)
    return query.all(flat=True)


def newest_campaign() -> Any:
    """Return the newest campaign.

    :raises ContentError: if there is none.
    """
    from ..tools.patience import patiently

    found = patiently(lambda: campaigns(limit=1))
    if not found:
        raise ContentError(
            "there is no campaign in this profile; start one: aiida-dosmatgen launch campaign --target my_dos.csv"
        )
    return found[0]
