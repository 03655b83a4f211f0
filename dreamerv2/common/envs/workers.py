"""Environments in worker processes: hangs are noticed, and no process outlives its run.

Gymnasium's `AsyncVectorEnv` waits for ever for a worker that hangs, and a worker that hangs waits
for ever for a main process that was killed. Here the main process gives up after a while, and a
worker ends soon after the main process. Ctrl-C reaches every process of a terminal; workers leave
it to the main process, which finishes its step and saves.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from gymnasium.vector import AsyncVectorEnv, AutoresetMode, async_vector_env

from dreamerv2.common.envs.spaces import EnvError

# Seconds that workers get to close their environments, before they are killed.
GRACE = 5.0


class WorkerEnvs(AsyncVectorEnv):
    """One process for each environment, in the autoreset mode `NEXT_STEP`.

    Worker processes are spawned, not forked: a fork of a process with threads (TensorFlow,
    prefetching) can deadlock.

    Args:
      constructors: Make the environments; the first is also called in this process, to see the
        spaces.
      timeout: Seconds that starting, a reset or a step may take; 0 is no limit.

    Raises:
      EOFError: A worker died while it started.
      TimeoutError: A worker took too long to start.
      Exception: What a constructor raised, or Gymnasium about spaces that differ.
    """

    def __init__(self, constructors: Sequence[Callable[[], Any]], timeout: float) -> None:
        self.timeout = timeout
        self.processes: list[Any] = []
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self._kill()

        timer = threading.Timer(timeout, give_up)
        timer.daemon = True
        if timeout:
            timer.start()
        try:
            with _interrupts_blocked():
                super().__init__(
                    constructors,
                    context="spawn",
                    autoreset_mode=AutoresetMode.NEXT_STEP,
                    worker=work,
                )
        except BaseException as error:
            self._kill()
            for process in self.processes:
                process.join()
            if late.is_set():
                raise TimeoutError from error
            raise
        finally:
            timer.cancel()

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> Any:
        """Reset all environments; `multiprocessing.TimeoutError` with its
        number if one does not answer in time."""
        self.reset_async(seed=seed, options=options)
        self._wait()
        return self.reset_wait()

    def step(self, actions: Any) -> Any:
        """Step all environments; `multiprocessing.TimeoutError` with its
        number if one does not answer in time."""
        self.step_async(actions)
        self._wait()
        return self.step_wait()

    def _wait(self) -> None:
        if not self.timeout:
            return
        deadline = time.monotonic() + self.timeout
        for index, pipe in enumerate(self.parent_pipes):
            if not pipe.poll(max(0.0, deadline - time.monotonic())):
                raise multiprocessing.TimeoutError(index)

    def _raise_if_errors(self, successes: Iterable[bool]) -> None:
        """Raise the first error; Gymnasium's method also prints the tracebacks of all."""
        failed = [success for success in successes if not success]
        if failed:
            found = sorted((self.error_queue.get() for _ in failed), key=lambda entry: entry[0])
            _, kind, message, trace = found[0]
            if not issubclass(kind, Exception):
                raise EnvError(f"a worker process ended by {kind.__name__}\n{trace}")
            raise kind(message)

    def _kill(self) -> None:
        for process in self.processes:
            with contextlib.suppress(ValueError, AttributeError):  # Closed, or not yet started.
                process.kill()

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """Close the environments, hang up, and wait for the processes; kill those that stay.

        Args:
          timeout: Seconds to wait; `GRACE` by default.
          terminate: The pipes are out of step after a failure: hang up without a word. Whoever
            still listens closes its environment then, too.
        """
        deadline = time.monotonic() + (GRACE if timeout is None else timeout)
        pipes = [pipe for pipe in self.parent_pipes if pipe is not None and not pipe.closed]
        for pipe in [] if terminate else pipes:
            with contextlib.suppress(OSError):
                pipe.send(("close", None))
        for pipe in [] if terminate else pipes:
            with contextlib.suppress(OSError, EOFError):
                if pipe.poll(max(0.0, deadline - time.monotonic())):
                    pipe.recv()
        for pipe in pipes:
            pipe.close()
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
        self._kill()
        for process in self.processes:
            process.join()


def work(
    index: int,
    constructor: Callable[[], Any],
    pipe: Any,
    parent_pipe: Any,
    shared_memory: Any,
    errors: Any,
    *rest: Any,
) -> None:
    """Serve one environment until the main process says so, or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    try:
        env = constructor()
    except Exception as error:
        # Gymnasium reports errors only once there is an environment.
        errors.put((index, type(error), str(error), ""))
        with contextlib.suppress(EOFError, OSError):
            pipe.recv()
            pipe.send((None, False))
        return
    try:
        arguments = (pipe, parent_pipe, shared_memory, errors, *rest)
        async_vector_env._async_worker(index, lambda: env, *arguments)
    except (EOFError, OSError):  # The main process has hung up, and reads no errors any more.
        errors.cancel_join_thread()


def _end_with_parent() -> None:
    """End this process some time after the main process, whatever its environment does."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        time.sleep(GRACE)  # Enough to close what can be closed.
        os._exit(1)


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Let processes that are started here not hear Ctrl-C, which would end them while importing."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
