"""xxHash64 of short inputs, from its specification: what Spark's xxhash64 should give."""

_P1, _P2, _P3, _P4, _P5 = (
    0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5,
)  # fmt: skip
_BITS = 2**64 - 1


def xxhash64(*values: bytes, seed: int = 42) -> int:
    """Of values of under 32 bytes, each one's hash the next one's seed; an int64, as Spark has it."""
    for value in values:
        seed = _hash(value, seed)
    return seed - 2**64 if seed >> 63 else seed


def _rotated(value: int, bits: int) -> int:
    return (value << bits | value >> (64 - bits)) & _BITS


def _hash(data: bytes, seed: int) -> int:
    assert len(data) < 32
    hashed = (seed + _P5 + len(data)) & _BITS
    while len(data) >= 8:
        lane = _rotated(int.from_bytes(data[:8], "little") * _P2 & _BITS, 31) * _P1 & _BITS
        hashed = (_rotated(hashed ^ lane, 27) * _P1 + _P4) & _BITS
        data = data[8:]
    if len(data) >= 4:
        hashed ^= int.from_bytes(data[:4], "little") * _P1 & _BITS
        hashed = (_rotated(hashed, 23) * _P2 + _P3) & _BITS
        data = data[4:]
    for byte in data:
        hashed = _rotated(hashed ^ (byte * _P5 & _BITS), 11) * _P1 & _BITS
    hashed = (hashed ^ hashed >> 33) * _P2 & _BITS
    hashed = (hashed ^ hashed >> 29) * _P3 & _BITS
    return hashed ^ hashed >> 32
