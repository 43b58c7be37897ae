"""The codes of a campaign, and what their jobs ask for."""

CODES: dict[str, tuple[str, str | None]] = {
    "dosmatgen": ("dosmatgen", None),  # its jobs are of several kinds
    "pw": ("pw.x", "quantumespresso.pw"),
    "projwfc": ("projwfc.x", "quantumespresso.projwfc"),
}
"""Label of each code: its executable and its default calculation plugin."""
