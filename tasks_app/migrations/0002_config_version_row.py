from django.db import migrations


def create_row(apps, schema_editor):
    """The one row whose lock orders configuration versions."""
    apps.get_model("tasks_app", "ConfigVersion").objects.get_or_create(pk=1)


class Migration(migrations.Migration):
    dependencies = [("tasks_app", "0001_initial")]

    operations = [migrations.RunPython(create_row, migrations.RunPython.noop)]
