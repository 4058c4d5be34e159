"""The Celery application: dispatch and housekeeping run here, never a user's task."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "quartzflow.settings")

app = Celery("quartzflow")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
