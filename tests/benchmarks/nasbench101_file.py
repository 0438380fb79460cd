"""The TFRecord of NAS-Bench-101, written from the definitions of its formats."""

from __future__ import annotations

import base64
import json
import struct

CELL = "0100110001000000010010000010000001000000010000000"
OPS = "input,conv3x3-bn-relu,maxpool3x3,conv3x3-bn-relu,conv3x3-bn-relu,conv1x1-bn-relu,output"
KEY = "00005c142e6f48ac74fdcf73e3439874"  # as published, as are the 8,555,530 parameters


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def evaluation(valid: float, test: float) -> bytes:
    doubles = [54.0, 900.0, 1.0, valid, test]
    return b"".join(bytes([number << 3 | 1]) + struct.pack("<d", value) for number, value in enumerate(doubles, 1))


def metrics(valid: float, test: float, params: int = 8_555_530) -> bytes:
    parts = [evaluation(0.1, 0.1), evaluation(0.5, 0.5), evaluation(valid, test) + b"\x32\x04path"]
    repeated = b"".join(b"\x0a" + varint(len(part)) + part for part in parts)
    return repeated + b"\x10" + varint(params) + b"\x19" + struct.pack("<d", 1.0)


def crc32c(data: bytes) -> int:
    """As polynomial division over whole numbers, the bits of a byte from the lowest."""
    bits = int("".join(f"{byte:08b}"[::-1] for byte in data) or "0", 2) << 32
    bits ^= 0xFFFFFFFF << 8 * len(data)
    for place in reversed(range(32, 32 + 8 * len(data))):
        if bits >> place & 1:
            bits ^= 0x11EDC6F41 << place - 32
    return int(f"{bits:032b}"[::-1], 2) ^ 0xFFFFFFFF


def framed(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    crc = crc32c(length)
    return length + struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF) + data + b"\0\0\0\0"


def record(epochs: int, valid: float, test: float, key: str = KEY, cell: str = CELL, ops: str = OPS, params: int = 8_555_530) -> bytes:
    message = base64.b64encode(metrics(valid, test, params)).decode()
    return framed(json.dumps([key, epochs, cell, ops, message]).encode())


def nasbench101() -> bytes:
    """Two cells, not side by side; one has three runs of 108 epochs and one of 36, the other two of 108."""
    other = {"key": "ab" * 16, "cell": "0100", "ops": "input,output", "params": 3}
    runs = [record(108, 0.90, 0.80), record(108, 0.5, 0.25, **other), record(36, 0.7, 0.6), record(108, 0.92, 0.82)]
    return b"".join([*runs, record(108, 0.94, 0.87), record(108, 0.25, 0.5, **other)])
