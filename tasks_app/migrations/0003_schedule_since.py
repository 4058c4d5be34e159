"""The moment from which a schedule counts; until now it was that of the last change of any field."""

import django.utils.timezone
from django.db import migrations, models


def take_last_change(apps, schema_editor):
    apps.get_model("tasks_app", "Task").objects.update(schedule_since=models.F("updated_at"))


class Migration(migrations.Migration):
    dependencies = [("tasks_app", "0002_config_version_row")]

    operations = [
        migrations.AddField(
            "task", "schedule_since", models.DateTimeField(default=django.utils.timezone.now, editable=False)
        ),
        migrations.RunPython(take_last_change, migrations.RunPython.noop),
    ]
