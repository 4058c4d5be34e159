"""The beat scheduler: `celery beat -S tasks_app.scheduler:QuartzScheduler`."""

from .beat import QuartzScheduler

__all__ = ["QuartzScheduler"]
