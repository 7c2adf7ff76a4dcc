"""Downstream tasks: training and evaluation items."""
