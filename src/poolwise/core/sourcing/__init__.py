"""Choosing node, lane and day for every line: the whole input as data, the engines, and the answer with its costs."""
