"""Bearer tokens: made once, kept only as hashes, compared in constant time. Standard library only."""

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum

from router.core.config import TokenConfig
from router.core.errors import ConfigError

PREFIX = "turnout_"
"""Begins every token, so that a secret scanner can tell one in a repository or a log."""

TOKEN_BYTES = 32
SALT_BYTES = 16
SCHEME = "sha256"


class AccessRole(IntEnum):
    """What a caller may do; each includes the ones below it."""

    NONE = 0
    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3

    def __str__(self) -> str:
        return self.name.lower()

    @classmethod
    def parse(cls, text: str) -> "AccessRole":
        """Return viewer, operator or admin; raises ValueError on anything else."""
        found = {str(role): role for role in cls if role is not cls.NONE}.get(text)
        if found is None:
            raise ValueError(f"role: got {text!r}, expected viewer, operator or admin")
        return found


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request: the token's name, for the record, and what it may do."""

    name: str
    role: AccessRole


@dataclass(frozen=True, slots=True)
class _Key:
    caller: Caller
    salt: bytes
    digest: bytes

    def fits(self, token: bytes) -> bool:
        return hmac.compare_digest(_digest(self.salt, token), self.digest)


def make_token(random_bytes: Callable[[int], bytes]) -> tuple[str, str]:
    """Return a new token and its hash for the configuration; `random_bytes(n)` must be cryptographic (os.urandom)."""
    token = PREFIX + base64.urlsafe_b64encode(random_bytes(TOKEN_BYTES)).rstrip(b"=").decode()
    return token, hash_token(token, random_bytes(SALT_BYTES))


def hash_token(token: str, salt: bytes) -> str:
    """Return `sha256:<salt>:<digest>`, both in hex.

    One round of SHA-256 is enough and a slow hash would be a mistake: a token is 256 random bits, so nobody can
    search for one however fast the hash is, while a slow one would let anybody burn our CPU by sending wrong tokens.
    The salt keeps equal tokens from being seen as equal.
    """
    return f"{SCHEME}:{salt.hex()}:{_digest(salt, token.encode()).hex()}"


def _digest(salt: bytes, token: bytes) -> bytes:
    return hashlib.sha256(salt + token).digest()


class Keyring:
    """All tokens of the configuration, ready to be looked up."""

    def __init__(self, tokens: Iterable[TokenConfig]) -> None:
        self._keys = tuple(_key(index, token) for index, token in enumerate(tokens))

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"Keyring({', '.join(f'{key.caller.name}: {key.caller.role}' for key in self._keys)})"

    def find(self, token: str) -> Caller | None:
        """Return whose token this is, or None; takes the same time whichever of them fits, or none."""
        given = token.encode("utf-8", "surrogateescape")
        fitting = [key.caller for key in self._keys if key.fits(given)]
        return fitting[0] if fitting else None


def _key(index: int, token: TokenConfig) -> _Key:
    field = f"auth.tokens[{index}]"
    scheme, _, rest = token.hash.partition(":")
    salt, _, digest = rest.partition(":")
    try:
        key = _Key(Caller(token.name, AccessRole.parse(token.role)), bytes.fromhex(salt), bytes.fromhex(digest))
    except ValueError as error:
        raise ConfigError(field, token.name, f"a token as printed by `turnout token` ({error})") from None
    if scheme != SCHEME or len(key.digest) != hashlib.sha256().digest_size or not key.salt:
        raise ConfigError(f"{field}.hash", token.name, "a hash as printed by `turnout token`")
    return key
