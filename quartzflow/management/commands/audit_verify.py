"""manage.py audit_verify: whether the audit trail is as it was written."""

import json
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from quartzflow.audit import verify
from quartzflow.management.command import OperatorCommand
from quartzflow.models import AuditEntry

SHOWN = 100


class Command(OperatorCommand):
    help = "Check the hash chain of the audit log. Exit code 0: whole; 1: entries were changed, removed or inserted."

    examples = """
  manage.py audit_verify --json | jq '.broken'
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print JSON")

    def work(self, **options: Any) -> None:
        breaks = [found for found, _ in zip(verify(), range(SHOWN), strict=False)]
        count = AuditEntry.objects.count()
        if options["json"]:
            self.stdout.write(json.dumps({"entries": count, "broken": [asdict(b) for b in breaks]}))
        elif not breaks:
            self.stdout.write(f"{count} entries, the chain is whole")
        else:
            for found in breaks:
                where = "" if found.entry_id is None else f"entry {found.entry_id}: "
                self.stdout.write(f"{where}{found.problem}")
        if breaks:
            raise SystemExit(1)
