"""The exception for wrong input, and what libraries raise for it."""

import struct
import zlib

PARSER_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    StopIteration,
    SyntaxError,  # xml.etree.ElementTree.ParseError is one
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What the readers of ASE and pymatgen raise for a file that they do not understand: they do not check, they stumble."""


class ContentError(ValueError):
    """Content that cannot be used: the message is one line that says what is wrong, where, and what to do."""
