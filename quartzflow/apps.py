from django.apps import AppConfig


class QuartzflowConfig(AppConfig):
    name = "quartzflow"
    verbose_name = "Quartz-Flow"
    default_auto_field = "django.db.models.BigAutoField"
