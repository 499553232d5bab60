"""Libraries that push their pieces into a callback, as streams to pull from."""

import asyncio


async def pulled(start):
    """The pieces that `start(put)` puts, until it ends; leaving early cancels it."""
    queue = asyncio.Queue()
    task = asyncio.create_task(start(queue.put))
    task.add_done_callback(lambda _: queue.put_nowait(None))
    try:
        while (piece := await queue.get()) is not None:
            yield piece
        await task
    finally:
        task.cancel()
        await asyncio.wait([task])
