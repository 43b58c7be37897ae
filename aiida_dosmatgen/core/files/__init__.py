"""Files of this package: they appear whole or not at all, and carry what tells a damaged copy.

Begin with ``archive.py``, arrays with a header; ``checksum.py`` and ``checkpoint_header.py`` are about checkpoints,
``structures.py`` reads what other programs write, ``labels.py`` and ``mpdos.py`` training data.
"""
