from django.db import migrations, models

from executions_app import log_search_index


def prepare(apps, schema_editor):
    log_search_index.prepare()


def remove(apps, schema_editor):
    log_search_index.remove()


class Migration(migrations.Migration):
    dependencies = [("executions_app", "0014_reports")]

    operations = [
        migrations.AddField("executionlog", "indexed_at", models.DateTimeField(null=True)),
        migrations.AddIndex(
            "executionlog",
            models.Index(fields=["execution"], name="idx_log_waiting", condition=models.Q(indexed_at=None)),
        ),
        migrations.RunPython(prepare, remove, elidable=False),
    ]
