"""Files of this package: they appear whole or not at all, and carry what tells a damaged copy.

Begin with ``archive.py``, arrays with a header; ``checksum.py`` and ``checkpoint_header.py`` are about checkpoints,
``replacing.py`` writes files whole. What other programs write is read by ``crystal_files`` and ``curve_files``.
"""
