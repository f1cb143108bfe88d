"""SE3: tokens are random, kept as hashes, and compared without telling by time which one was close."""

import os
import statistics
import time

import pytest

from router.admin.access import ADDRESSES, WrongTokens
from router.admin.tokens import PREFIX, AccessRole, Caller, Keyring, hash_token, make_token
from router.core.config import TokenConfig
from router.core.errors import ConfigError


def counting(number: int) -> bytes:
    """Return bytes that anybody could guess."""
    return bytes(range(number))


def test_a_made_token_fits_its_hash_and_is_not_in_it() -> None:
    """256 bits of the given randomness, and a hash that does not hold them."""
    token, kept = make_token(os.urandom)
    keyring = Keyring([TokenConfig("olga", "operator", kept)])
    assert keyring.find(token) == Caller("olga", AccessRole.OPERATOR)
    assert token.startswith(PREFIX)
    assert len(token) == len(PREFIX) + 43
    assert token not in kept
    assert token.removeprefix(PREFIX) not in repr(keyring)


def test_the_same_randomness_makes_the_same_token() -> None:
    """Nothing else goes in, so two tokens differ exactly as far as the randomness does."""
    assert make_token(counting) == make_token(counting)
    assert make_token(os.urandom)[0] != make_token(os.urandom)[0]


def test_equal_tokens_have_unequal_hashes() -> None:
    """The salt differs."""
    assert hash_token("turnout_x", b"a") != hash_token("turnout_x", b"b")


@pytest.mark.parametrize(
    "wrong", ["", "turnout_", "turnout_admin2", "TURNOUT_ADMIN", "turnout_admin ", "turnout_ädmin", "\udcff"]
)
def test_what_is_not_a_token_is_nobodys(wrong: str) -> None:
    """Whatever it looks like, and whatever bytes a header can hold."""
    keyring = Keyring([TokenConfig("root", "admin", hash_token("turnout_admin", b"salt"))])
    assert keyring.find(wrong) is None


def test_every_token_finds_its_own_name_and_role() -> None:
    """Wherever it stands in the list."""
    roles = ("viewer", "operator", "admin")
    keyring = Keyring(TokenConfig(f"{role}s", role, hash_token(role, os.urandom(16))) for role in roles)
    assert [str(keyring.find(role)) for role in roles] == [
        str(Caller(f"{role}s", AccessRole.parse(role))) for role in roles
    ]


@pytest.mark.parametrize(
    "kept", ["", "hunter2", "sha256:zz:00", "sha256::" + "00" * 32, "md5:00:" + "00" * 32, "sha256:00:" + "00" * 31]
)
def test_a_hash_that_cannot_be_read_is_a_configuration_error(kept: str) -> None:
    """It names the token, not the hash, and says where one comes from."""
    with pytest.raises(ConfigError, match="turnout token") as caught:
        Keyring([TokenConfig("olga", "operator", kept)])
    assert "hunter2" not in str(caught.value)


def test_finding_takes_as_long_for_the_first_token_as_for_the_last_or_none() -> None:
    """Every key is compared each time: the medians of interleaved rounds differ by less than half.

    Leaving at the first hit would take a fiftieth of the time for the first of fifty tokens.
    """
    tokens = [f"turnout_{number}" for number in range(50)]
    keyring = Keyring(TokenConfig(token, "viewer", hash_token(token, b"salt")) for token in tokens)
    asked = {"first": tokens[0], "last": tokens[-1], "none": "turnout_x"}
    took: dict[str, list[float]] = {name: [] for name in asked}
    for _ in range(300):
        for name, token in asked.items():
            began = time.perf_counter()
            keyring.find(token)
            took[name].append(time.perf_counter() - began)
    medians = [statistics.median(times) for times in took.values()]
    assert max(medians) < 1.5 * min(medians)


def test_the_eleventh_wrong_token_within_a_minute_has_to_wait() -> None:
    """Each address for itself, and no longer than until the oldest is a minute old."""
    wrong = WrongTokens()
    assert [wrong.add("10.0.0.1", float(second)) for second in range(10)] == [None] * 10
    assert wrong.add("10.0.0.1", 10.0) == pytest.approx(50.0)
    assert wrong.add("10.0.0.2", 10.0) is None
    assert wrong.add("10.0.0.1", 59.9) == pytest.approx(0.1)
    assert wrong.add("10.0.0.1", 60.0) is None


def test_the_addresses_that_are_remembered_are_bounded() -> None:
    """A flood from many addresses pushes out the oldest, not the memory."""
    wrong = WrongTokens()
    for number in range(ADDRESSES + 100):
        wrong.add(f"address {number}", 0.0)
    assert len(wrong._times) == ADDRESSES  # noqa: SLF001 - what must not grow
