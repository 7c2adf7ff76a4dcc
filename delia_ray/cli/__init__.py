"""The command ``delia``: verbs, terminal and exit codes."""
