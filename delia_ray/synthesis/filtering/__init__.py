"""Filters of generated and user-supplied rows, detection of refusals and duplicates, and writers of kept and rejected rows."""
