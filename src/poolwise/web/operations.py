"""Operations: is the process alive, can it serve, what does it measure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from poolwise.core.values import Refused
from poolwise.web.endpoint import Call, Nothing, Reply
from poolwise.web.errors import refused

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class HealthOut(msgspec.Struct, frozen=True, kw_only=True):
    """The process is alive."""

    status: str
    release: str


class ReadyOut(msgspec.Struct, frozen=True, kw_only=True):
    """The process can serve, and under what."""

    status: str
    release: str
    edition: str
    policy: str
    policy_version: int


class Measured:
    """What a process counts and times."""

    def __init__(self, followers: Callable[[], int], waiting: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "poolwise_http_requests", "Requests answered.", ("endpoint", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "poolwise_http_request_seconds",
            "Time to answer a request, without waiting for decisions.",
            ("endpoint",),
            buckets=BUCKETS,
            registry=self.registry,
        )
        streams = Gauge("poolwise_http_event_streams", "Clients that follow the feed.", registry=self.registry)
        streams.set_function(followers)
        queued = Gauge("poolwise_http_requests_waiting", "Requests that wait for a thread.", registry=self.registry)
        queued.set_function(waiting)

    def answered(self, endpoint: str, status: int, seconds: float) -> None:
        """Note one answer."""
        self.requests.labels(endpoint, str(status)).inc()
        self.seconds.labels(endpoint).observe(seconds)

    def read_metrics(self, _call: Call[Nothing, Nothing]) -> Reply:
        """Read what this process measures, in the text format of Prometheus."""
        return Reply(200, generate_latest(self.registry))


def read_health(call: Call[Nothing, Nothing]) -> Reply:
    """Tell that the process is alive; asks nobody else."""
    return Reply(200, HealthOut(status="alive", release=call.services.release))


def read_ready(call: Call[Nothing, Nothing]) -> Reply:
    """Tell whether requests can be served: the database answers, and an edition and a policy are in force."""
    lacking = call.services.views.ready()
    if lacking:
        raise refused("not_ready", lacking)
    try:
        atlas = call.services.rules.current()
    except Refused as error:
        raise refused("not_ready", str(error)) from error
    policy = atlas.policy.policy
    return Reply(
        200,
        ReadyOut(
            status="ready",
            release=call.services.release,
            edition=atlas.edition.hash,
            policy=policy.code,
            policy_version=policy.version,
        ),
    )
