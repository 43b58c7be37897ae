"""The exception for wrong input, and what libraries raise for it."""

import re
import struct
import zlib

PARSER_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    StopIteration,
    SyntaxError,  # xml.etree.ElementTree.ParseError is one
    TypeError,
    ValueError,
    Warning,  # raised by the reader of SHELX files
    struct.error,
    zlib.error,
)
"""What the readers of ASE and pymatgen raise for a file that they do not understand: they do not check, they stumble."""


class ContentError(ValueError):
    """Content that cannot be used: the message is one line that says what is wrong, where, and what to do.

    Line ends and other control characters, as names of files may have, become blanks.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", str(message)))
