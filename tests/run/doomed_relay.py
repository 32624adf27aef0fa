"""A relay that dies where a test says: the real one, with short leases and a failpoint in its book."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from unittest.mock import patch

from poolwise.run import processes
from poolwise.run.relay import Means
from poolwise.run.settings import Settings
from poolwise.store.steps import never
from poolwise.store.webhooks import PostgresOutbound
from tests.run.doomed import Doom

LEASE = timedelta(seconds=0.9)
ATTEMPT = timedelta(seconds=0.3)


def relay(settings: Settings, doom: Doom | None) -> None:
    """A relay that will be killed, where there is a doom."""
    failpoint = never if doom is None else doom.failpoint()
    with (
        patch.object(processes, "Means", partial(Means, lease=LEASE, attempt=ATTEMPT, poll_s=0.02)),
        patch.object(processes, "PostgresOutbound", partial(PostgresOutbound, failpoint=failpoint)),
    ):
        processes.relay(settings)
