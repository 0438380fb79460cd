"""The workers of a dask scheduler as an executor of `concurrent.futures`.

dask's own (`Client.get_executor`) leaves a future open for ever where a result is lost with its worker before it was fetched, and cannot be
computed again. It also keeps all results on the workers, so that with the death of one they are computed again.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

T = TypeVar("T")


class DaskExecutor(Executor):
    """Tasks that are carried out by the workers of a scheduler. A result is fetched as soon as it is there, and not kept elsewhere.

    Args:
        client: a `distributed.Client`, which is left open.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._tasks: dict[Future[Any], Any] = {}  # dask's futures of those that have not ended

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        answer: Future[T] = Future()
        self._tasks[answer] = self._client.submit(fn, *args, pure=False, **kwargs)
        answer.add_done_callback(self._release)
        self._client.loop.add_callback(self._fetch, answer, self._tasks[answer])
        return answer

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        unfinished = list(self._tasks)
        if cancel_futures:
            for answer in unfinished:
                answer.cancel()
        elif wait:
            futures.wait(unfinished)

    async def _fetch(self, answer: Future[Any], task: Any) -> None:
        try:
            result = await self._client.gather(task, asynchronous=True)
        except BaseException as error:  # of the task, of its worker, or that it was cancelled
            if not answer.done():
                answer.set_exception(error)
        else:
            if not answer.done():
                answer.set_result(result)

    def _release(self, answer: Future[Any]) -> None:
        task = self._tasks.pop(answer)
        if answer.cancelled():
            task.cancel()
        else:
            task.release()
