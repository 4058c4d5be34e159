"""manage.py backup: the whole installation in one encrypted file."""

import json
from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from quartzflow.audit import record
from quartzflow.management.command import OperatorCommand, add_json
from quartzflow.management.passphrase import VARIABLE, read_passphrase
from quartzflow.run.backup import BackupError, do_backup


class Command(OperatorCommand):
    help = (
        "Write database, keys, certificates and files into one file, encrypted with a passphrase, while everything"
        f" runs. The passphrase: the first line of --passphrase-file, else the variable {VARIABLE}, else it is"
        " asked for."
    )
    examples = """
  manage.py backup /backups/quartzflow-$(date +%F).qfb
  manage.py backup nightly.qfb --passphrase-file /etc/quartzflow/backup-passphrase --json
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", help="one that is there is replaced when the new one is whole")
        parser.add_argument("--passphrase-file", metavar="PATH")
        add_json(parser)

    def work(self, **options: Any) -> None:
        path = Path(options["file"])
        try:
            manifest = do_backup(path, read_passphrase(options["passphrase_file"], twice=True))
        except BackupError as error:
            raise CommandError(str(error)) from None
        record(
            "system", "backup.create", None, {"file": str(path), "bytes": path.stat().st_size}, name=path.name
        )
        facts = {**asdict(manifest), "file": str(path), "bytes": path.stat().st_size}
        if options["json"]:
            self.stdout.write(json.dumps(facts))
        else:
            self.stdout.write(
                f"{path}: {facts['bytes']} bytes, {manifest.database} and {manifest.files} files. Keep the passphrase"
                " apart: without it nothing opens this."
            )
