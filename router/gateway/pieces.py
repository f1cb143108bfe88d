"""Bodies that come in pieces, held as one run of bytes.

A list of pieces would cost its objects: a body in chunks of two bytes takes 28 times its size that way.
"""


def grown(held: bytes | bytearray, data: bytes) -> bytes | bytearray:
    """Return `held` with `data` behind it; a bytearray grows in place, and the first piece is not copied."""
    if not held:
        return data
    if not isinstance(held, bytearray):
        held = bytearray(held)
    held += data
    return held
