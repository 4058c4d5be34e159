"""/metrics for Prometheus, and /api/v1/scheduler: how scheduling stands. For accounts that may see all executions."""

from collections.abc import Iterator
from typing import Any

import redis
from django.db.models import Count
from django.http import HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from rest_framework import serializers
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from executions_app import log_search_index
from executions_app.models import Execution, MissedFiring
from groups_app.choices import ClientStatus
from groups_app.models import Client
from quartzflow import metrics
from quartzflow.execution_status import LIVE, ExecutionStatus
from quartzflow.lease import SCHEDULER, current

QUEUE = "qf.celery"  # of the broker


class MaySeeAll(BasePermission):
    def has_permission(self, request: Request, view: Any) -> bool:
        return bool(request.user.has_perm("executions_app.view_execution"))


def _live() -> dict[tuple[str, str], int]:
    """(status, why it is held back) → how many wait or run."""
    rows = Execution.objects.filter(status__in=LIVE).order_by().values_list("status", "hold")
    return {
        (ExecutionStatus(status).name, hold): count
        for status, hold, count in rows.annotate(count=Count("id"))
    }


def _queue_length() -> int:
    with metrics.connect() as client:
        return int(client.llen(QUEUE))


class State(Collector):
    """Reads Redis and the tables when it is asked."""

    def collect(self) -> Iterator[Metric]:
        leader = current(SCHEDULER)
        yield GaugeMetricFamily(
            "quartzflow_scheduler_up", "Whether a scheduler holds the lease", value=bool(leader)
        )
        live = GaugeMetricFamily(
            "quartzflow_executions_live", "What waits or runs", labels=["status", "hold"]
        )
        for labels, count in _live().items():
            live.add_metric(labels, count)
        yield live
        online = Client.objects.filter(status=ClientStatus.ONLINE).count()
        yield GaugeMetricFamily("quartzflow_clients_online", "Hosts with an open session", value=online)
        missed = MissedFiring.objects.filter(resolved_at=None).count()
        yield GaugeMetricFamily("quartzflow_missed_firings", "Gaps in the schedules", value=missed)
        waiting = log_search_index.state().waiting
        yield GaugeMetricFamily(
            "quartzflow_log_search_waiting",
            "Outputs that log search does not know yet, 10000 at most",
            value=waiting,
        )
        try:
            counts, processes, queued = metrics.read_counts(), metrics.read_processes(), _queue_length()
        except redis.RedisError:
            yield GaugeMetricFamily("quartzflow_redis_up", "Whether Redis answers", value=0)
            return
        yield GaugeMetricFamily("quartzflow_redis_up", "Whether Redis answers", value=1)
        yield GaugeMetricFamily("quartzflow_queue_length", "Messages that wait for a worker", value=queued)
        yield from _processes(processes)
        yield from _counts(counts)


def _processes(processes: dict[str, dict[str, Any]]) -> Iterator[Metric]:
    for name, text in {
        "leader": "Whether this instance leads",
        "backlog": "Firings that are due and not sent",
        "tasks": "Tasks that are planned",
    }.items():
        family = GaugeMetricFamily(f"quartzflow_scheduler_{name}", text, labels=["instance"])
        for process, facts in processes.items():
            family.add_metric([process], float(facts.get(name, 0)))
        yield family


def _counts(counts: dict[str, float]) -> Iterator[Metric]:
    for name, text in metrics.COUNTERS.items():
        labels = ["status"] if name == "executions_ended" else []
        family = CounterMetricFamily(f"quartzflow_{name}", text, labels=labels)
        for key, value in counts.items():
            if key.partition("|")[0] == name:
                family.add_metric([key.partition("|")[2]] if labels else [], value)
        yield family
    for name, (text, _) in metrics.HISTOGRAMS.items():
        buckets, total = metrics.histogram(counts, name)
        histogram = HistogramMetricFamily(f"quartzflow_{name}", text)
        histogram.add_metric([], buckets, total)
        yield histogram


class MetricsView(APIView):
    """Everything in Prometheus' text format."""

    schema = None
    permission_classes = [IsAuthenticated, MaySeeAll]

    def get(self, request: Request) -> HttpResponse:
        registry = CollectorRegistry()
        registry.register(State())
        return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


class SchedulerSerializer(serializers.Serializer[Any]):
    """Reads only."""

    alive = serializers.BooleanField(help_text="Whether an instance leads.")
    leader = serializers.CharField(allow_blank=True)
    token = serializers.IntegerField(help_text="Grows with every change of the leader.")
    instances = serializers.DictField(help_text="What each instance last said; empty while Redis is away.")
    queue_length = serializers.IntegerField(allow_null=True)
    lateness_p50 = serializers.FloatField(
        allow_null=True, help_text="Seconds, rounded up to a bucket's bound."
    )
    lateness_p99 = serializers.FloatField(allow_null=True)
    live = serializers.DictField(child=serializers.IntegerField())
    held = serializers.IntegerField()
    missed = serializers.IntegerField(help_text="Gaps in the schedules that nobody has filled.")


def scheduler_state() -> dict[str, Any]:
    """How scheduling stands, as SchedulerSerializer describes it; the console shows the same."""
    leader = current(SCHEDULER)
    counted = _live()
    live: dict[str, int] = {}
    for (status, _hold), count in counted.items():
        live[status] = live.get(status, 0) + count
    counts: dict[str, float] = {}
    instances: dict[str, Any] = {}
    queued: int | None = None
    try:
        counts, instances, queued = metrics.read_counts(), metrics.read_processes(), _queue_length()
    except redis.RedisError as error:
        metrics.log.warning("metrics not read", error=str(error))
    return {
        "alive": leader is not None,
        "leader": leader.holder if leader else "",
        "token": leader.token if leader else 0,
        "instances": instances,
        "queue_length": queued,
        "lateness_p50": metrics.quantile(counts, "start_lateness_seconds", 0.5),
        "lateness_p99": metrics.quantile(counts, "start_lateness_seconds", 0.99),
        "live": live,
        "held": sum(count for (_, hold), count in counted.items() if hold),
        "missed": MissedFiring.objects.filter(resolved_at=None).count(),
    }


class SchedulerView(APIView):
    """How scheduling stands."""

    permission_classes = [IsAuthenticated, MaySeeAll]
    serializer_class = SchedulerSerializer

    def get(self, request: Request) -> Response:
        return Response(SchedulerSerializer(scheduler_state()).data)
