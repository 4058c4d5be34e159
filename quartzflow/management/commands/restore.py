"""manage.py restore: an installation from its backup."""

import json
from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from quartzflow.env import EnvError
from quartzflow.management.command import OperatorCommand, add_json
from quartzflow.management.passphrase import VARIABLE, read_passphrase
from quartzflow.run.backup import BackupError, do_restore
from quartzflow.run.preflight import data_dir_lock
from quartzflow.run.setup import make_data_dir


class Command(OperatorCommand):
    help = (
        "Put back what `backup` wrote: database, keys, certificates, files. Nothing may run meanwhile. All of the"
        " file is decrypted and checked before anything is replaced. A database that holds something is replaced"
        f" only with --force. The passphrase: as for `backup` (--passphrase-file, {VARIABLE}, or asked for)."
    )
    examples = """
  manage.py restore /backups/quartzflow-2026-01-31.qfb && manage.py setup
  manage.py restore nightly.qfb --force --passphrase-file /etc/quartzflow/backup-passphrase
"""
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file")
        parser.add_argument("--force", action="store_true", help="replace a database that is not empty")
        parser.add_argument("--passphrase-file", metavar="PATH")
        add_json(parser)

    def work(self, **options: Any) -> None:
        passphrase = read_passphrase(options["passphrase_file"])
        data_dir: Path = settings.QF_DATA_DIR
        try:
            make_data_dir(data_dir)
            with data_dir_lock(data_dir):
                manifest = do_restore(
                    Path(options["file"]), passphrase, force=options["force"], say=self.stderr.write
                )
        except (BackupError, EnvError) as error:
            raise CommandError(str(error)) from None
        if options["json"]:
            self.stdout.write(json.dumps(asdict(manifest)))
        else:
            self.stdout.write(
                f"restored what was there at {manifest.created_at}. Now `manage.py setup` brings it up to date;"
                " `manage.py check_consistency` looks it over."
            )
