"""Work beside a block of code: started with it, ended with it, and no error of either is lost."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager


@asynccontextmanager
async def background(*work: Coroutine[None, None, None]) -> AsyncIterator[asyncio.TaskGroup]:
    """Run `work` while the block runs; yields the group, for work that comes later.

    The work is cancelled and awaited at the block's end. Work that fails cancels the block. One error comes out as
    itself (a TaskGroup alone would wrap it), several as an ExceptionGroup.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
            try:
                yield group
            finally:
                for task in tasks:
                    task.cancel()
    except BaseExceptionGroup as errors:
        if len(errors.exceptions) == 1:
            raise errors.exceptions[0] from None
        raise
