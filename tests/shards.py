"""The labels over the periodic table, which are in the repository and not in the source distribution, whose tests run too."""

from pathlib import Path

import pytest

SHARDS = Path(__file__).parents[1] / "datasets" / "pseudodojo-pbe"

needs_shards = pytest.mark.skipif(not SHARDS.exists(), reason="the shards are in the repository, not in the package")
