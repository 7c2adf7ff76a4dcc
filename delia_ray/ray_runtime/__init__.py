"""Placement applied to Ray: cluster connection, resource checks, vLLM engine arguments, and distributed counters."""
