"""Calcfunctions: every step between the jobs that makes a choice, so that the provenance graph records it.

Content that cannot be used ends a calcfunction with exit status 310 and the reason, never with a traceback (``content.py``).
The functions are here by their names, too: graphs of before say ``calculations.functions.screen``.
"""

from .content import BAD_CONTENT, content_function
from .crystals import collect_crystals, crystals_from_structure, extract_candidate, join_crystals, join_geometries
from .datasets import join_labelled, select_labelled, split_labelled
from .dos import count_states, prepare_dos
from .labels import assemble_labelled
from .scoring import ELECTRONS_MISSING, score_dos
from .screening import rank, screen, select_candidates
from .targets import add_wishes, combine_targets, target_from_labelled, target_from_pdos

__all__ = [
    "BAD_CONTENT",
    "ELECTRONS_MISSING",
    "add_wishes",
    "assemble_labelled",
    "collect_crystals",
    "combine_targets",
    "content_function",
    "count_states",
    "crystals_from_structure",
    "extract_candidate",
    "join_crystals",
    "join_geometries",
    "join_labelled",
    "prepare_dos",
    "rank",
    "score_dos",
    "screen",
    "select_candidates",
    "select_labelled",
    "split_labelled",
    "target_from_labelled",
    "target_from_pdos",
]
