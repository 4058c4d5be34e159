from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("executions_app", "0011_alerts")]

    operations = [
        migrations.AddField(
            model_name="alertsilence",
            name="reason",
            field=models.CharField(blank=True, max_length=256, verbose_name="reason"),
        ),
    ]
