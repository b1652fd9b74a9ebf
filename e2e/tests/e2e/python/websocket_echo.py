"""A WebSocket echo on the `websockets` library, and a client that talks to one."""

import asyncio
import sys

import websockets


async def echo(socket):
    async for message in socket:
        await socket.send(message)


async def serve():
    async with websockets.serve(echo, "127.0.0.1", 0, max_size=None) as server:
        print("port", server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()


async def call(address):
    async with websockets.connect(f"ws://{address}/chat", max_size=None) as socket:
        for message in ["hello", b"\x00\x01\x02", "x" * 1_000_000, "last"]:
            await socket.send(message)
            assert await socket.recv() == message
        await (await socket.ping())
    assert socket.close_code == 1000, socket.close_code
    print("echoed")


asyncio.run(serve() if sys.argv[1] == "serve" else call(sys.argv[2]))
