"""A connection to Redis between a test and a real one, on which things go wrong when the test says so."""

import asyncio
from contextlib import asynccontextmanager


class Line:
    """A connection to Redis on which things go wrong. What is sent to a script meets the first of `fates`:

    "cut"         the connection ends before it arrives
    "unanswered"  it arrives and the connection ends before the answer
    "held"        it arrives when `release` is called; the connection stays
    """

    def __init__(self, port):
        self.upstream, self.port = port, 0
        self.fates: list[str] = []
        self.down = False
        self._held, self._writers = [], []

    async def hang_up(self):
        """As if Redis were gone, until `down` is false."""
        self.down = True
        for writer in self._writers:
            writer.close()

    def release(self):
        for writer, data in self._held:
            writer.write(data)

    async def serve(self, reader, writer):
        if self.down:
            writer.close()
            return
        from_redis, to_redis = await asyncio.open_connection("127.0.0.1", self.upstream)
        self._writers += [writer, to_redis]
        muted = False

        async def there():
            nonlocal muted
            while data := await reader.read(1 << 20):
                fate = self.fates.pop(0) if self.fates and b"EVAL" in data else None
                if fate == "cut":
                    break
                if fate == "held":
                    self._held.append((to_redis, data))
                    await asyncio.Event().wait()
                muted = fate == "unanswered"
                to_redis.write(data)

        async def back():
            while (data := await from_redis.read(1 << 20)) and not muted:
                writer.write(data)

        tasks = [asyncio.create_task(way()) for way in (there, back)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            writer.close()
            if not any(to_redis is held for held, _ in self._held):
                to_redis.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def lined(port):
    line = Line(port)
    server = await asyncio.start_server(line.serve, "127.0.0.1", 0)
    line.port = server.sockets[0].getsockname()[1]
    try:
        yield line
    finally:
        await line.hang_up()
        server.close()
        await asyncio.sleep(0)
