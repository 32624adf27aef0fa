"""Poolwise: a distributed order management system that says why."""

__version__ = "0.1.0"
