from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("executions_app", "0012_silence_reason")]

    operations = [
        *(
            migrations.AddField("dailystats", name, models.IntegerField(default=0))
            for name in ("removed_success", "removed_failure", "removed_timeout", "removed_cancelled")
        ),
        migrations.AddField("dailystats", "removed_total_ms", models.BigIntegerField(default=0)),
        migrations.AddField("dailystats", "removed_max_ms", models.IntegerField(default=0)),
        migrations.AddField("dailystats", "removed_min_ms", models.IntegerField(default=0)),
        migrations.CreateModel(
            name="RemovedExecution",
            fields=[
                ("execution_id", models.CharField(max_length=160, primary_key=True, serialize=False)),
                ("removed_at", models.DateTimeField(db_index=True)),
            ],
            options={"db_table": "tb_removed_execution"},
        ),
    ]
