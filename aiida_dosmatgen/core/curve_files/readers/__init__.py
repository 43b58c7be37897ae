"""Readers of one kind of file each: they return a :class:`~..found.Found`, what stands in the file.

Begin with ``text.py``, tables of any dialect: ``table.py`` finds the numbers, ``headings.py`` says what columns are.
``vasp.py``, ``espresso.py`` and ``records.py`` read what VASP, LOBSTER and Quantum ESPRESSO write, and JSON.
"""
