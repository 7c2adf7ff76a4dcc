"""Internals of other libraries, one module a library: what is used, in which versions, and when it can go.

Nothing else in the package touches what a library does not document. `tests/integration/test_upstream.py` checks every name against the
installed version, so that an upgrade fails there and not in the middle of a run.
"""
