"""A reader of TFRecord files and of the protocol buffers in them, as far as NAS-Bench-101 needs it, without tensorflow and protobuf."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from diswot.errors import DataError

HEAD = 12  # bytes before the data of a record: the length and its checksum
_MAX_RECORD = 1_000_000  # bytes; the records of NAS-Bench-101 have about 400


def records(source: Path, file: BinaryIO) -> Iterator[bytes]:
    """Yield the data of each record of a TFRecord file.

    A record is its length (8 bytes), the checksum of the length (4 bytes), the data, and the checksum of the data (4 bytes). The last one
    is not verified, since the benchmark's authors publish the SHA-256 of the whole file.

    Args:
        source: path of the file, for error messages.
        file: the open file, at its beginning.

    Raises:
        DataError: the file is damaged or cut short.
    """
    number = 0
    while head := file.read(HEAD):
        number += 1
        length = length_in(head)
        data = b"" if length is None else file.read(length + 4)
        if length is None or len(data) < length + 4:
            raise DataError(f"{source}: damaged or cut short at record {number}: download the file again")
        yield data[:-4]


def length_in(head: bytes) -> int | None:
    """Return the length of a record's data from its first 12 bytes, or None if the checksum is wrong or the length is implausible.

    >>> length_in(bytes.fromhex("1800000000000000a37f4b22"))
    24
    """
    if len(head) < HEAD:
        return None
    length, checksum = struct.unpack("<QI", head)
    return length if length <= _MAX_RECORD and checksum == _masked_crc(head[:8]) else None


@functools.lru_cache(maxsize=4096)
def _masked_crc(data: bytes) -> int:
    """Return the checksum that TFRecord uses: the CRC-32C, rotated by 15 bits, plus a constant."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """Return the CRC-32C checksum, which is the CRC-32 with Castagnoli's polynomial.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Yield the number and the value of each field of a protocol buffer.

    Varints become an int, 8-byte fields a double, 4-byte fields a float, and fields with a length (texts, messages) bytes.

    Raises:
        ValueError: the message is cut short.

    >>> list(fields(bytes([0x10, 0x96, 0x01, 0x0A, 0x01, 0x07])))
    [(2, 150), (1, b'\\x07')]
    """
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        wire_type, value = key & 7, 0
        if wire_type in (0, 2):
            value, position = _varint(message, position)
        size = {0: 0, 1: 8, 2: value, 5: 4}[wire_type]
        if position + size > len(message):
            raise ValueError("a field of the protocol buffer is cut short")
        raw = message[position : position + size]
        position += size
        yield key >> 3, value if wire_type == 0 else raw if wire_type == 2 else struct.unpack("<d" if wire_type == 1 else "<f", raw)[0]


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """Return the integer that begins at a position, and the position after it; each byte holds 7 bits, the lowest first."""
    value = 0
    for index in range(10):
        byte = message[position + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, position + index + 1
    raise ValueError("an integer of the protocol buffer is longer than 10 bytes")
