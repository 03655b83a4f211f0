"""Lets processes wait for each other, and compares what they say of themselves.

The first process listens at its address; each other one connects there, says who it is, and waits
for the answer, which comes once all are there: nothing, or why they cannot work together. After
that nobody listens any more, and the addresses are free for what is to follow.

    others  {"index": 1, "facts": {...}}  ->  first
    others  <-  {"trouble": ""}               first, to all at once
"""

from __future__ import annotations

import contextlib
import errno
import json
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dreamerv2.common.errors import UserError

Facts = Mapping[str, str]

# Seconds: to wait for all, for an answer of somebody who is there, and between two tries.
PATIENCE = 600.0
_ANSWER = 5.0
_RETRY = 0.3

_LONGEST = 2**20  # Bytes of a message; what is longer comes from somebody else.
_SHOWN = 6  # Facts listed in a sentence.


def meet(
    addresses: Sequence[str],
    index: int,
    facts: Facts,
    say: Callable[[str], None] = lambda line: None,
    patience: float = PATIENCE,
) -> None:
    """Wait until the processes of all addresses are there.

    Args:
        addresses: ``host:port`` of each process.
        index: Of this process.
        facts: What has to be the same for all, by name.
        say: Shows a line.
        patience: Seconds to wait.

    Raises:
        UserError: The port of this process is taken, somebody did not come, or facts differ; the
            latter is raised by all.
    """
    own = _listen(addresses[index])  # Also the others: better now than later.
    with contextlib.closing(own):
        others = len(addresses) - 1
        say(f"Waiting for {others} other worker{'s' * (others > 1)} ...")
        deadline = time.monotonic() + patience
        if index == 0:
            trouble = _receive_all(own, addresses, facts, deadline)
        else:
            own.close()
            trouble = _report(addresses, index, facts, deadline)
    if trouble:
        raise UserError(trouble)


def differences(ours: Facts, theirs: Facts, worker: int) -> str:
    """Return a sentence on the facts of a worker that differ from ours; empty if none do."""
    keys = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
    if not keys:
        return ""
    listed = ", ".join(
        f"{key} is {ours.get(key, 'missing')} and {theirs.get(key, 'missing')}"
        for key in keys[:_SHOWN]
    )
    more = f", and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return f"workers 0 and {worker} differ: {listed}{more}; start the same command on all machines."


def _receive_all(
    own: socket.socket, addresses: Sequence[str], facts: Facts, deadline: float
) -> str:
    """Be the first: return what is to be said to all, having said it to the others."""
    there: dict[int, tuple[socket.socket, Facts]] = {}
    with contextlib.ExitStack() as stack:
        while len(there) < len(addresses) - 1:
            _forget_lost(there)
            if time.monotonic() > deadline:
                missing = [i for i in range(1, len(addresses)) if i not in there]
                return _missing(missing, addresses)
            own.settimeout(_RETRY)
            try:
                connection, _ = own.accept()
            except TimeoutError:
                continue
            stack.enter_context(connection)
            message = _read(connection)
            index = message.get("index")
            if not isinstance(index, int) or not 0 < index < len(addresses):
                continue  # Somebody else.
            if isinstance(message.get("facts"), dict):
                there[index] = connection, message["facts"]
        found = [differences(facts, there[i][1], i) for i in sorted(there)]
        trouble = next(filter(None, found), "")
        for connection, _ in there.values():
            with contextlib.suppress(OSError):
                connection.sendall(_line({"trouble": trouble}))
        for connection, _ in there.values():
            # They close first: the port is free at once then.
            with contextlib.suppress(OSError):
                connection.settimeout(_ANSWER)
                connection.recv(1)
    return trouble


def _report(addresses: Sequence[str], index: int, facts: Facts, deadline: float) -> str:
    """Be another one: return what the first says."""
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(_split(addresses[0]), timeout=_ANSWER) as connection:
                connection.sendall(_line({"index": index, "facts": dict(facts)}))
                answer = _read(connection, deadline)
        except socket.gaierror as error:
            return (
                f"the address of worker 0, {addresses[0]}, is unknown ({error.strerror}); correct "
                "it on all machines."
            )
        except OSError:
            answer = {}
        if "trouble" in answer:
            return str(answer["trouble"])
        time.sleep(_RETRY)
    return _missing([0], addresses)


def _missing(indices: Sequence[int], addresses: Sequence[str]) -> str:
    names = " and ".join(f"worker {index} ({addresses[index]})" for index in indices)
    return (
        f"{names} did not come; start the same command on all machines, and see that each can "
        "reach the addresses of the others."
    )


def _forget_lost(there: dict[int, tuple[socket.socket, Facts]]) -> None:
    """Forget those who went away while they waited; they will come again, or not."""
    for index, (connection, _) in list(there.items()):
        connection.setblocking(False)
        try:
            lost = not connection.recv(1)
        except BlockingIOError:
            lost = False
        except OSError:
            lost = True
        if lost:
            connection.close()
            del there[index]
        else:
            connection.setblocking(True)


def _listen(address: str) -> socket.socket:
    host, port = _split(address)
    try:
        return _bind(host, port)
    except OSError as error:
        # Behind a router, or in a container, the address may be one that only others see.
        unknown = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
        trouble = error
    if unknown:
        try:
            return _bind("", port)
        except OSError as error:
            trouble = error
    raise UserError(
        f"this worker cannot use its address {address} ({trouble.strerror}); stop what uses the "
        "port, or choose another one for it on all machines."
    )


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    result = socket.socket(family)
    try:
        result.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        result.bind((host, port))
        result.listen(64)
    except BaseException:
        result.close()
        raise
    return result


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _line(message: Mapping[str, object]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _read(connection: socket.socket, deadline: float | None = None) -> dict[str, Any]:
    """Return a message; an empty one from somebody who sends none or something else."""
    data = b""
    end = time.monotonic() + _ANSWER if deadline is None else deadline
    try:
        while not data.endswith(b"\n") and len(data) < _LONGEST:
            connection.settimeout(max(0.01, end - time.monotonic()))
            piece = connection.recv(2**16)
            if not piece:
                return {}
            data += piece
        message = json.loads(data)
    except (OSError, ValueError):
        return {}
    return message if isinstance(message, dict) else {}
