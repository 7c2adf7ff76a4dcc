"""Shared building blocks: configs, artifacts, record schemas, text measures, errors. They import neither Ray nor torch."""
