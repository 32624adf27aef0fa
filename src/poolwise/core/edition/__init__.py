"""Editions: master rows, checked against each other, compiled into network and catalogue, kept as hashed chunks."""
