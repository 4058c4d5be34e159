from django.db import migrations, models

from quartzflow import audit_search


def prepare(apps, schema_editor):
    audit_search.prepare()


def remove(apps, schema_editor):
    audit_search.remove()


class Migration(migrations.Migration):
    dependencies = [("quartzflow", "0006_role_grants")]

    operations = [
        migrations.AddIndex(
            "auditentry", models.Index(fields=["object_id", "-id"], name="idx_audit_object_id")
        ),
        migrations.AddIndex("auditentry", models.Index(fields=["address", "-id"], name="idx_audit_address")),
        migrations.AddIndex("auditentry", models.Index(fields=["request_id", "-id"], name="idx_audit_request")),
        migrations.RunPython(prepare, remove, elidable=False),
    ]
