"""Whom we talk to: translators between partner systems, files and the canonical messages."""
