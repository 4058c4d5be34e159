"""A simulation in several processes, and the pipe by which its owner asks them."""

import asyncio
import gc
import multiprocessing
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from .fleet import Fleet
from .options import Options, Stats


class Simulation:
    """Starts its processes at once; `close` ends them. Any method raises EOFError when one of them has died."""

    def __init__(self, options: Options, processes: int = 1) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        start = options.first
        for number in range(processes):
            count = options.count // processes + (number < options.count % processes)
            share = replace(options, first=start, count=count, rate=options.rate / processes)
            start += count
            ours, theirs = context.Pipe()
            process = context.Process(target=run, args=(share, theirs), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        self.pids = [process.pid for process in self._processes]

    def stats(self) -> Stats:
        """The totals of all processes."""
        total = Stats()
        for part in self._ask("stats"):
            total += part
        return total

    def drop_all(self) -> None:
        """Every agent loses its connection without a word."""
        self._ask("drop_all")

    def applied_at(self, version: int) -> list[float]:
        """When agents have applied this configuration version, or a later one: Unix times, seconds."""
        return sorted(moment for part in self._ask("applied_at", version) for moment in part)

    def close(self) -> None:
        """Let all agents say goodbye, and end the processes. Idempotent."""
        with suppress(EOFError, OSError):
            self._ask("stop")
        for process in self._processes:
            process.join(10)
            if process.is_alive():
                process.kill()
        for pipe in self._pipes:
            pipe.close()

    def _ask(self, what: str, *args: Any) -> list[Any]:
        for pipe in self._pipes:
            pipe.send((what, args))
        return [pipe.recv() for pipe in self._pipes]


def run(options: Options, pipe: Connection) -> None:
    """The main function of one process: serves its agents until its owner says stop, or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the owner, who says stop
    gc.freeze()
    asyncio.run(_run(options, pipe))


async def _run(options: Options, pipe: Connection) -> None:
    fleet = Fleet(options)
    stopped = asyncio.Event()
    answers: dict[str, Callable[..., Any]] = {
        "stats": lambda: fleet.stats,
        "drop_all": fleet.drop_all,
        "applied_at": fleet.applied_at,
    }

    def answer() -> None:
        try:
            what, args = pipe.recv()
        except (EOFError, OSError):
            stopped.set()
            return
        if what == "stop":
            stopped.set()
        else:
            pipe.send(answers[what](*args))

    loop = asyncio.get_running_loop()
    loop.add_reader(pipe.fileno(), answer)
    ramp_up = asyncio.create_task(fleet.ramp_up())
    waiting = asyncio.create_task(stopped.wait())
    done, _ = await asyncio.wait([ramp_up, waiting], return_when=asyncio.FIRST_COMPLETED)
    if ramp_up in done:
        ramp_up.result()
        await waiting
    loop.remove_reader(pipe.fileno())
    ramp_up.cancel()
    waiting.cancel()
    await fleet.stop()
    with suppress(OSError):
        pipe.send(None)
