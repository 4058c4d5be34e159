import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    """A version of a task's definition for each change. What a task was before its first one is kept at that change."""

    dependencies = [("tasks_app", "0009_waves")]

    operations = [
        migrations.CreateModel(
            name="TaskVersion",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("number", models.PositiveIntegerField()),
                (
                    "action",
                    models.CharField(
                        choices=[
                            ("create", "New task"),
                            ("update", "Edited"),
                            ("enable", "Enabled"),
                            ("disable", "Disabled"),
                            ("restore", "Restored"),
                            ("import", "Imported"),
                            ("copy", "Copied"),
                        ],
                        max_length=8,
                    ),
                ),
                ("origin", models.PositiveIntegerField(null=True)),
                ("actor_name", models.CharField(blank=True, max_length=150)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("changed", models.JSONField(default=list)),
                ("definition", models.JSONField()),
                (
                    "task",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="versions",
                        to="tasks_app.task",
                    ),
                ),
            ],
            options={"db_table": "tb_task_version"},
        ),
        migrations.AddConstraint(
            model_name="taskversion",
            constraint=models.UniqueConstraint(fields=("task", "number"), name="uk_task_version"),
        ),
    ]
