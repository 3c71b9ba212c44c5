"""The log's own encoding: one event, one JSON payload; field order fixed by the struct."""

import msgspec

from schemas.events import Event, LedgerEvent

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[LedgerEvent] = msgspec.json.Decoder(LedgerEvent)

encode_event = _encoder.encode
decode_event = _decoder.decode

_TOPIC_BY_TYPE: dict[type[Event], str] = {}


def topic_of(event: Event) -> str:
    """Stored type and version of an event, such as "trade_executed:1"."""
    kind = type(event)
    topic = _TOPIC_BY_TYPE.get(kind)
    if topic is None:
        topic = _TOPIC_BY_TYPE[kind] = f"{kind.__struct_config__.tag}:{event.v}"
    return topic
