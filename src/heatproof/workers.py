"""The same work one item after another, in several processes, or by Ray, with the same numbers.

What decides the numbers is sent to the workers, and so is the number of threads: the numbers agree to the last bit.
"""

from __future__ import annotations

import copy
import importlib
import multiprocessing
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import torch

from heatproof.errors import HeatproofError, UsageError

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")
SERIAL = "serial"
_held: list[Any] = []  # in a worker process: the work and what it shares


def mapped(work: Callable[[S, T], R], shared: S, items: Sequence[T], *, workers: str = SERIAL) -> Iterator[R]:
    """``work(shared, item)`` of every item, in their order.

    Args:
        work: a function at the top level of a module. shared: what all items need; sent to each worker once.
        workers: "serial", "processes:4" for so many processes of this machine, or "ray" for a Ray cluster.

    Raises: UsageError for other workers, where Ray is missing, or where what is shared cannot be sent;
        HeatproofError where a worker dies.
    """
    count = processes(workers)
    if count is None:
        return _by_ray(work, shared, items)
    if count == 1 or not items:
        return (work(shared, item) for item in items)
    return _by_processes(work, shared, items, min(count, len(items)))


def processes(workers: str) -> int | None:
    """The number of processes: 1 for serial, None for Ray.

    >>> processes("processes:4")
    4
    """
    match = re.fullmatch(r"processes:([1-9]\d*)", workers)
    if workers not in (SERIAL, "ray") and match is None:
        raise UsageError(f"workers: got {workers!r}, expected 'serial', 'processes:4' or 'ray'")
    if workers == "ray":
        _ray()
        return None
    return int(match[1]) if match else 1


def _by_processes(work: Callable[[S, T], R], shared: S, items: Sequence[T], count: int) -> Iterator[R]:
    context = multiprocessing.get_context("spawn")  # forks of a process with threads hang
    arguments = (work, _sendable(shared), torch.get_num_threads())
    with ProcessPoolExecutor(count, mp_context=context, initializer=_hold, initargs=arguments) as pool:
        try:
            _start(pool)
            yield from pool.map(_one, items)
        except BrokenProcessPool:
            raise _dead("in a script start the work below if __name__ == '__main__':") from None
        finally:
            pool.shutdown(cancel_futures=True)


def _dead(hint: str) -> HeatproofError:
    return HeatproofError(f"a worker process died; ask for fewer (memory); {hint}")


def _start(pool: ProcessPoolExecutor) -> None:
    """Start the first worker, which is when what is shared is sent."""
    try:
        pool.submit(_idle)
    except Exception as error:  # pickle raises many kinds
        raise _unsendable(error) from error


def _idle() -> None:
    """Nothing."""


def _hold(work: Any, shared: Any, threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started the workers handles Ctrl-C
    torch.set_num_threads(threads)
    _held[:] = [work, shared]


def _one(item: Any) -> Any:
    work, shared = _held
    return work(shared, item)


def _by_ray(work: Callable[[S, T], R], shared: S, items: Sequence[T]) -> Iterator[R]:
    ray = _ray()
    started = not ray.is_initialized()
    if started:
        ray.init(log_to_driver=False)

    remote, held = ray.remote(_far), ray.put((work, _sendable(shared), torch.get_num_threads()))
    left = [remote.remote(held, item) for item in items]
    try:
        while left:
            yield ray.get(left.pop(0))
    except ray.exceptions.RayTaskError as error:  # with the worker's traceback as its text
        raise error.cause from error
    except ray.exceptions.RayError as error:
        raise _dead(str(error).splitlines()[0]) from None
    finally:
        for one in left:
            ray.cancel(one)
        if started:
            ray.shutdown()


def _far(held: tuple[Any, Any, int], item: Any) -> Any:
    work, shared, threads = held
    torch.set_num_threads(threads)
    return work(shared, item)


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise UsageError("workers='ray' needs Ray; install it with: pip install 'heatproof[ray]'") from None


def _sendable(shared: S) -> S:
    """A copy: what is sent to other processes moves to shared memory, and the caller's tensors are to stay as they are.

    Raises: UsageError where it cannot be copied.
    """
    try:
        return copy.deepcopy(shared)
    except Exception as error:  # a model may hold anything
        raise _unsendable(error) from error


def _unsendable(error: Exception) -> UsageError:
    return UsageError(
        f"workers: the model or the samples cannot be sent to other processes ({type(error).__name__}: {error}); "
        "use workers='serial'"
    )
