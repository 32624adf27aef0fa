"""Processes that tests start and kill: forks of one that has imported everything, so that a start takes no time."""

from __future__ import annotations

import multiprocessing

# It has never had a thread or a connection. There is one for all tests of a process: it imports for all of them.
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["tests.run.doomed", "tests.run.doomed_relay", "tests.connect.doomed"])
