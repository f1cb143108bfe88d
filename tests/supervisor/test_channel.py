"""Messages between parent and child."""

import asyncio
import socket

import pytest

from router.core.config import TurnoutConfig
from router.core.traffic import Backend, Match, Route, Variant
from router.gateway.channel import FRAME_BYTES, Channel, Drain, Failed, Message, Metrics, Ready, Settings
from router.telemetry.metrics import HistogramValue


async def two_ends() -> tuple[Channel, Channel]:
    """Return both ends of a channel."""
    one, other = socket.socketpair()
    return await Channel.open(one), await Channel.open(other)


def a_config() -> TurnoutConfig:
    """Return a configuration with one Route."""
    variant = Variant("v1", (Backend("127.0.0.1", 9001),))
    return TurnoutConfig({"digits": Route("digits", Match(), "opaque", {"v1": variant}, "v1")})


async def test_messages_arrive_whole_and_in_order() -> None:
    """Every value survives the way, a configuration and a histogram too."""
    here, there = await two_ends()
    messages: list[Message] = [
        Settings(a_config(), "b00t", "unix:///tmp/s", 3),
        Metrics({"turnout_request_seconds": {("digits", "v1"): HistogramValue((1, 2), 0.5)}}),
        Failed("no\nway", lasting=True),
        Ready(),
        Drain(2.5),
    ]
    for message in messages:
        here.send(message)
    assert [await there.receive() for _ in messages] == messages
    here.close()
    there.close()


async def test_a_large_message_arrives_while_the_reader_is_slow() -> None:
    """More than a socket holds is sent in pieces and put together again."""
    here, there = await two_ends()
    big = Failed("x" * (4 * 2**20), lasting=False)
    here.send(big)
    flushed = asyncio.create_task(here.flush())
    assert await there.receive() == big
    await flushed
    here.close()
    there.close()


async def test_the_end_of_the_other_process_is_none() -> None:
    """End of file is told again and again; sending to nobody is no error."""
    here, there = await two_ends()
    there.close()
    assert await here.receive() is None
    assert await here.receive() is None
    here.send(Ready())
    await here.flush()
    here.close()


async def test_a_cancelled_receive_loses_nothing() -> None:
    """Whoever waits with a deadline and gives up within a frame still gets that frame later."""
    ours, raw = socket.socketpair()
    here = await Channel.open(ours)
    other, probe = await two_ends()
    probe.close()
    other.close()
    frame = await _frame_of(Drain(1.0))
    for cut in range(1, len(frame)):
        raw.send(frame[:cut])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(here.receive(), 0.001)
        raw.send(frame[cut:])
        assert await here.receive() == Drain(1.0)
    here.close()
    raw.close()


async def test_a_message_beyond_the_bound_is_refused_by_its_sender() -> None:
    """The sender hears it; the channel goes on."""
    here, there = await two_ends()
    with pytest.raises(ValueError, match="Failed takes"):
        here.send(Failed("x" * FRAME_BYTES, lasting=False))
    here.send(Ready())
    assert await there.receive() == Ready()
    here.close()
    there.close()


async def _frame_of(message: Message) -> bytes:
    ours, raw = socket.socketpair()
    channel = await Channel.open(ours)
    channel.send(message)
    await channel.flush()
    raw.settimeout(None)
    frame = raw.recv(65_536)
    channel.close()
    raw.close()
    return frame
