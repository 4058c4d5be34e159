"""Times in the API are UTC, whatever the time zone of the server and of the caller."""

from datetime import datetime

from django.test import Client

from executions_app.dispatch import Firing, fire
from executions_app.models import Execution
from quartzflow.models import UserPreference
from tests import people


def test_times_are_utc_for_everybody(db: None) -> None:
    people.online_client()
    task = people.task()
    fire([Firing(task_id=task.pk, scheduled=people.at(2026, 1, 1, 12, 0))])
    execution = Execution.objects.get()
    UserPreference.objects.create(user=people.admin(), timezone="America/New_York")
    client = Client()
    client.force_login(people.admin())
    shown = client.get(f"/api/v1/executions/{execution.pk}").json()["data"]
    assert datetime.fromisoformat(shown["scheduled_time"]) == people.at(2026, 1, 1, 12, 0)
    assert shown["scheduled_time"].endswith("Z")
    assert datetime.fromisoformat(shown["created_at"]) == execution.created_at
