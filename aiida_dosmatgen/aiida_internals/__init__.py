"""All that this package takes of aiida-core that is not public: every other module uses the public API alone.

Public is what can be imported from ``aiida`` and its second-level packages, and what has no underscore. The methods that a
plugin is meant to define (``_validate`` of data, those of a scheduler) are public in this sense. Each module here says why it
needs more. ``tests/test_aiida_internals.py`` looks at every name and signature, so that it tells what another version of
aiida-core has changed; and it refuses imports from deeper modules, and calls of private methods, anywhere else.
"""
