"""Calcfunctions: every step between the jobs that makes a choice, so that the provenance graph records it.

Content that cannot be used ends a calcfunction with exit status 310 and the reason, never with a traceback (``content.py``).
The functions are here by their names, too: graphs of before say ``calculations.functions.screen``.
"""

from .content import BAD_CONTENT, content_function
from .crystals import collect_crystals, crystals_from_structure, extract_candidate, join_crystals, join_geometries
from .datasets import join_labelled, select_labelled, split_labelled
from .dos import count_states, prepare_dos
from .labels import assemble_labelled
from .learning import (
    add_known,
    choose_repeats,
    extend_labelled,
    gate,
    judge_checkpoint,
    moved_in_cell,
    part_for_learning,
    plan_round,
    rehearse,
    sum_up_round,
)
from .scoring import ELECTRONS_MISSING, score_dos
from .screening import rank, screen, select_candidates
from .targets import add_wishes, combine_targets, target_from_labelled, target_from_pdos

__all__ = [
    "BAD_CONTENT",
    "ELECTRONS_MISSING",
    "add_known",
    "add_wishes",
    "assemble_labelled",
    "choose_repeats",
    "collect_crystals",
    "combine_targets",
    "content_function",
    "count_states",
    "crystals_from_structure",
    "extend_labelled",
    "extract_candidate",
    "gate",
    "join_crystals",
    "join_geometries",
    "join_labelled",
    "judge_checkpoint",
    "moved_in_cell",
    "part_for_learning",
    "plan_round",
    "prepare_dos",
    "rank",
    "rehearse",
    "score_dos",
    "screen",
    "select_candidates",
    "select_labelled",
    "split_labelled",
    "sum_up_round",
    "target_from_labelled",
    "target_from_pdos",
]
