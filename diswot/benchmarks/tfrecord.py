"""TFRecord files and the protocol buffers in them, as far as a benchmark needs: plain bytes, neither tensorflow nor protobuf."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from diswot.errors import DataError

HEAD = 12  # bytes: the length and its checksum
_MAX_RECORD = 1_000_000  # bytes; those of NAS-Bench-101 have some 400


def records(source: Path, file: BinaryIO) -> Iterator[bytes]:
    """The records of a TFRecord: length (8 bytes), its checksum (4), the data, their checksum (4), which is not looked at: the
    benchmark's authors publish the SHA-256 of the files."""
    number = 0
    while head := file.read(HEAD):
        number += 1
        length = length_in(head)
        data = b"" if length is None else file.read(length + 4)
        if length is None or len(data) < length + 4:
            raise DataError(f"{source}: damaged or cut short at record {number}: fetch it again")
        yield data[:-4]


def length_in(head: bytes) -> int | None:
    """The length of a record from its first 12 bytes, or None where its checksum, or the length itself, is not one of a record.

    >>> length_in(bytes.fromhex("1800000000000000a37f4b22"))
    24
    """
    if len(head) < HEAD:
        return None
    length, checksum = struct.unpack("<QI", head)
    return length if length <= _MAX_RECORD and checksum == _masked(head[:8]) else None


@functools.lru_cache(maxsize=4096)
def _masked(data: bytes) -> int:
    """TFRecord's checksum: the CRC-32C, rotated by 15 bits and shifted by a constant."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """The CRC-32 with Castagnoli's polynomial, bit by bit.

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
    """The fields of a protocol buffer by their numbers: varints as int, 8 bytes as double, 4 as float, everything with a length as bytes.

    >>> list(fields(bytes([0x10, 0x96, 0x01, 0x0A, 0x01, 0x07])))
    [(2, 150), (1, b'\\x07')]
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind, value = key & 7, 0
        if kind in (0, 2):
            value, at = _varint(message, at)
        size = {0: 0, 1: 8, 2: value, 5: 4}[kind]
        if at + size > len(message):
            raise ValueError("a field is cut short")
        piece = message[at : at + size]
        at += size
        yield key >> 3, value if kind == 0 else piece if kind == 2 else struct.unpack("<d" if kind == 1 else "<f", piece)[0]


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte, the lowest first, and where it ends."""
    value = 0
    for place in range(10):
        byte = message[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError("a number of more than 10 bytes")
