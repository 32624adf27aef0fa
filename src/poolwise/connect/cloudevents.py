"""Events as others read them: CloudEvents 1.0, structured JSON, the same bytes whoever carries them."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from poolwise.flows.ports import Event

MEDIA_TYPE: Final = "application/cloudevents+json"
SOURCE: Final = "/v1/events"


def event_body(event: Event, id_: str, at: datetime, sequence: str = "") -> bytes:
    """An event under its id, and its place in the feed (`cell:number`) as the extension `sequence`."""
    said: dict[str, object] = {
        "specversion": "1.0",
        "id": id_,
        "source": SOURCE,
        "type": event.type,
        "subject": event.subject,
        "time": at,
        "datacontenttype": "application/json",
    }
    if sequence:
        said["sequence"] = sequence
    return msgspec.json.encode({**said, "data": event.data})
