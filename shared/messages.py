"""What every message is made of: a type with its version, one encoder, typed decoders, a bound.

The messages themselves are in shared/contracts.
"""

from typing import TypeVar

import msgspec

from shared.errors import Permanent

MAX_MESSAGE_BYTES = 256 * 1024
"""No message is larger: NATS' own default limit (1 MiB) stays far away."""

M = TypeVar("M")
Decoder = msgspec.json.Decoder


class Message(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="type", omit_defaults=True
):
    """What all messages have in common: a `type` with its version, camelCase names, UTC times."""

    @classmethod
    def type_name(cls) -> str:
        """The tag on the wire, also the CloudEvents type."""
        return str(cls.__struct_config__.tag)


def encode(message: Message) -> bytes:
    """The message as JSON. Raises `Permanent` when it is larger than a message may be."""
    payload = _ENCODER.encode(message)
    if len(payload) > MAX_MESSAGE_BYTES:
        raise Permanent(f"{message.type_name()} of {len(payload)} bytes is over {MAX_MESSAGE_BYTES}")
    return payload


def decode(payload: bytes, decoder: "Decoder[M]") -> M:
    """The message in `payload`. Raises `Permanent` when it is not of the decoder's types."""
    try:
        return decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Permanent(f"undecodable message: {error}") from error


_ENCODER = msgspec.json.Encoder()
