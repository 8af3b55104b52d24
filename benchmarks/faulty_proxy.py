"""A proxy before an S3 server that injects the faults of a store that misbehaves, as often as is asked for.

mitmproxy 11, which could do most of it, would bring 30 packages and hold cryptography and h11 at older releases.

=============  ========================================================================================================
``500``        InternalError; ``503``: SlowDown; ``403``: ExpiredToken. With S3's XML, but a HEAD has no body
``reset``      the connection is reset in the middle of the body of the request or of the answer; so the store may have
               done what was asked for
``truncated``  half of the body under the right Content-Length, then the connection is closed
``wrong``      a bit of an object is flipped, on its way up or down. Listings are spared: nothing tells their checksum
``stall``      ``stall_seconds`` pass before the request goes on
=============  ========================================================================================================

It listens on loopback alone, speaks HTTP/1.1, and hands on whatever it does not spoil as it comes, for SigV4 covers the
Host header. A fault that a request gives no room for (``truncated`` without a body) is left out and not counted.
"""

import asyncio
import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread
from urllib.parse import urlsplit

REFUSALS = {  # kind: status line, code
    "500": ("500 Internal Server Error", "InternalError"),
    "503": ("503 Slow Down", "SlowDown"),
    "403": ("403 Forbidden", "ExpiredToken"),
}
ALL_KINDS = (*REFUSALS, "reset", "truncated", "wrong", "stall")
BLOCK = 1 << 16
RESET_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER of no seconds: closing sends RST


@dataclass
class Head:
    """The first line and the headers of a request or an answer."""

    line: str
    headers: list[tuple[str, str]]

    @classmethod
    async def read(cls, reader: asyncio.StreamReader) -> "Head":
        line, *rest = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        return cls(line, [(name, value.strip()) for name, _, value in (each.partition(":") for each in rest)])

    def get(self, name: str) -> str:
        return next((value for each, value in self.headers if each.lower() == name), "")

    def without(self, *names: str) -> "Head":
        return Head(self.line, [each for each in self.headers if each[0].lower() not in names])

    def encode(self) -> bytes:
        return "\r\n".join([self.line, *(f"{name}: {value}" for name, value in self.headers), "", ""]).encode("latin-1")

    @property
    def is_chunked(self) -> bool:
        return "chunked" in self.get("transfer-encoding").lower()

    @property
    def length(self) -> int:
        """Bytes of the body; 1, of which nothing is known, for a chunked one."""
        return 1 if self.is_chunked else int(self.get("content-length") or 0)


class FaultyProxy:
    """The proxy while it runs.

    Attributes:
        endpoint: ``http://127.0.0.1:PORT``.
        counts: of the faults by their kind, and of all ``requests``.
        rate: how many of the requests get a fault, 0 to 1; may be set at any time, as ``kinds`` and ``stall_seconds``.
    """

    def __init__(self, upstream: str, rate: float, seed: int, kinds: Sequence[str], stall_seconds: float):
        place = urlsplit(upstream)
        assert place.scheme == "http" and place.hostname and set(kinds) <= set(ALL_KINDS), (upstream, kinds)
        self.upstream = place.hostname, place.port or 80
        self.rate, self.kinds, self.stall_seconds = rate, kinds, stall_seconds
        self.counts: Counter[str] = Counter()
        self.random = random.Random(seed)
        self.endpoint = ""

    async def listen(self) -> asyncio.Server:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The requests of one connection, one after the other."""
        try:
            while await self._pass_on(await Head.read(reader), reader, writer):
                pass
        except (OSError, EOFError, asyncio.LimitOverrunError):  # one of the two has gone
            pass
        finally:
            writer.close()

    async def _pass_on(self, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request. Returns whether the connection can be used for another."""
        self.counts["requests"] += 1
        method = head.line.split(" ")[0]
        kind = self.random.choice(self.kinds) if self.random.random() < self.rate else None
        if kind in REFUSALS:
            self.counts[kind] += 1
            if not head.get("expect"):
                async for _ in body_of(head, reader):
                    pass
            await send(writer, refusal(kind, with_body=method != "HEAD"))
            return False
        if kind == "stall":
            self.counts[kind] += 1
            await asyncio.sleep(self.stall_seconds)
        if head.get("expect"):
            await send(writer, b"HTTP/1.1 100 Continue\r\n\r\n")
        up, up_writer = await asyncio.open_connection(*self.upstream)
        try:
            await send(up_writer, head.without("expect", "connection").encode()[:-2] + b"Connection: close\r\n\r\n")
            if kind == "wrong" and method == "PUT" and head.length:
                await self._spoil(kind, head, reader, up_writer)
            elif kind == "reset" and head.length and self.random.random() < 0.5:
                await self._spoil(kind, head, reader, up_writer)
                reset(writer)
                return False
            else:
                async for piece, _ in body_of(head, reader):
                    await send(up_writer, piece)
            return await self._answer(method, kind, up, writer)
        finally:
            up_writer.close()

    async def _answer(
        self, method: str, kind: str | None, up: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        head = await Head.read(up)
        while head.line.split(" ")[1].startswith("1"):
            head = await Head.read(up)
        has_body = method != "HEAD" and head.length > 0
        if kind == "reset" and not has_body:
            self.counts[kind] += 1
            reset(writer)
            return False
        await send(writer, head.without("connection").encode())
        if not has_body:
            return True
        is_object = method == "GET" and "xml" not in head.get("content-type")
        if kind in ("reset", "truncated") or (kind == "wrong" and is_object):
            await self._spoil(kind, head, up, writer)
            if kind == "reset":
                reset(writer)
            return kind == "wrong"
        async for piece, _ in body_of(head, up):
            await send(writer, piece)
        return True

    async def _spoil(self, kind: str, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hand on the body, with a flipped bit somewhere (``wrong``), or a part of it."""
        self.counts[kind] += 1
        place, passed = self.random.randrange(head.length), 0
        async for piece, is_data in body_of(head, reader):
            if is_data and passed <= place < passed + len(piece):
                if kind != "wrong":
                    await send(writer, piece[: place - passed])
                    return
                spoilt = bytearray(piece)
                spoilt[place - passed] ^= 1 << self.random.randrange(8)
                piece = bytes(spoilt)
            passed += len(piece) if is_data else 0
            await send(writer, piece)


async def body_of(head: Head, reader: asyncio.StreamReader) -> AsyncIterator[tuple[bytes, bool]]:
    """The body in pieces, each with whether it is data; what else there is frames the chunks of a chunked one."""
    if not head.is_chunked:
        async for piece in exactly(head.length, reader):
            yield piece, True
        return
    while True:
        line = await reader.readuntil(b"\r\n")
        yield line, False
        length = int(line.split(b";")[0], 16)
        async for piece in exactly(length, reader):
            yield piece, True
        if length:
            yield await reader.readexactly(2), False
            continue
        while line != b"\r\n":  # trailers
            line = await reader.readuntil(b"\r\n")
            yield line, False
        return


async def exactly(length: int, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while length:
        piece = await reader.read(min(length, BLOCK))
        if not piece:
            raise EOFError
        length -= len(piece)
        yield piece


async def send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


def reset(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_ONCE)
    writer.transport.abort()


def refusal(kind: str, with_body: bool) -> bytes:
    """An answer of S3's form."""
    status, code = REFUSALS[kind]
    body = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>Injected.</Message></Error>"
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\nConnection: close"
    return f"{head}\r\n\r\n{body if with_body else ''}".encode()


@contextmanager
def faulty_proxy(
    upstream_endpoint: str, rate: float, seed: int, kinds: Sequence[str] = ALL_KINDS, stall_seconds: float = 5.0
) -> Iterator[FaultyProxy]:
    """Run a proxy in a thread for the time of the ``with`` block.

    Args:
        upstream_endpoint: of the S3 server, ``http://HOST:PORT``.
        rate: how many of the requests get a fault, 0 to 1.
        seed: of the faults; requests that come at once may come in another order next time.
        kinds: of the faults, equally often; of ``ALL_KINDS``.
        stall_seconds: how long ``stall`` takes.
    """
    proxy = FaultyProxy(upstream_endpoint, rate, seed, kinds, stall_seconds)
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, name="faulty proxy", daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(proxy.listen(), loop).result()
    try:
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(end(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def end(server: asyncio.Server) -> None:
    server.close()
    serving = asyncio.all_tasks() - {asyncio.current_task()}
    for task in serving:
        task.cancel()
    await asyncio.gather(*serving, return_exceptions=True)
