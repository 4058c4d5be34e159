"""Leases: one process among many acts alone for a while, by a row that all of them see.

A holder renews every 2 s; 8 s without renewal and another one takes the lease. Time is the database's, so that the
clocks of the machines do not matter. The token grows with every change of holder and with nothing else: whoever
holds an older one was replaced without noticing (stopped, paused, cut off) and is fenced off by it.
"""

import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from quartzflow.models import Lease

SCHEDULER = "scheduler"
TTL = 8.0  # seconds
RENEW_EVERY = 2.0  # seconds
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class LeaseState:
    """Who holds a lease at this moment."""

    holder: str
    token: int


def current(name: str) -> LeaseState | None:
    """Who holds the lease now; None when nobody does."""
    row = Lease.objects.filter(name=name, expires_at__gt=Now()).values_list("holder", "token").first()
    return row and LeaseState(*row)


def scheduler_alive() -> bool:
    """Whether some beat instance holds the scheduler's lease."""
    return Lease.objects.filter(name=SCHEDULER, expires_at__gt=Now()).exists()


def new_holder() -> str:
    """A name for this process that no other one has."""
    return f"{socket.gethostname()[:64]}:{os.getpid()}:{secrets.token_hex(4)}"


class LeaseKeeper:
    """One process's try for a lease: call `keep` often, act only while `holds` is true.

    Every method that asks the database may raise DatabaseError; what is held stays held until its time runs out.
    """

    def __init__(
        self,
        name: str,
        *,
        ttl: float = TTL,
        renew_every: float = RENEW_EVERY,
        holder: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.holder = holder or new_holder()
        self.token = 0  # of the lease that we hold, or held last
        self._ttl = timedelta(seconds=ttl)
        self._renew_every = renew_every
        self._clock = clock
        self._asked_at = (
            0.0  # on our clock, before the last successful statement was sent: never later than its effect
        )
        self._held = False

    def holds(self) -> bool:
        """Whether the lease is ours for certain, by our own clock and without asking."""
        return self._held and self._clock() - self._asked_at < self._ttl.total_seconds()

    def keep(self) -> bool:
        """Take the lease when it is free, renew it when that is due. Returns whether it is ours."""
        asked_at = self._clock()
        if self.holds() and asked_at - self._asked_at < self._renew_every:
            return True
        if self._held and not self._renew():
            self._held = False
            log.warning("lease lost", lease=self.name, holder=self.holder, token=self.token)
        if not self._held and self._take():
            self._held = True
            log.info("lease taken", lease=self.name, holder=self.holder, token=self.token)
        if self._held:
            self._asked_at = asked_at
        return self._held

    def release(self) -> None:
        """Give the lease up at once, so that another one need not wait for its end."""
        if self._held:
            self._held = False
            Lease.objects.filter(name=self.name, holder=self.holder, token=self.token).update(
                expires_at=LONG_AGO
            )
            log.info("lease released", lease=self.name, holder=self.holder, token=self.token)

    def _renew(self) -> bool:
        ours = Lease.objects.filter(
            name=self.name, holder=self.holder, token=self.token, expires_at__gt=Now()
        )
        return ours.update(expires_at=Now() + self._ttl) == 1

    def _take(self) -> bool:
        row = Lease.objects.filter(name=self.name)
        # A look first: those that wait must not queue for SQLite's one write lock.
        if row.filter(expires_at__gt=Now()).exists():
            return False
        with transaction.atomic():
            free = row.filter(expires_at__lte=Now())
            taken = {"holder": self.holder, "token": F("token") + 1, "expires_at": Now() + self._ttl}
            if not free.update(**taken):
                Lease.objects.bulk_create([Lease(name=self.name, expires_at=LONG_AGO)], ignore_conflicts=True)
                if not free.update(**taken):
                    return False
            self.token = row.values_list("token", flat=True).get()
        return True
