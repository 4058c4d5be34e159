"""manage.py check_consistency: whether the tables agree with each other."""

import json
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from executions_app.consistency import CHECKS, check_all
from quartzflow.management.command import OperatorCommand, add_json


class Command(OperatorCommand):
    help = (
        "Look for rows that contradict each other: schedules, versions, executions, hosts, rights, the audit log. Exit"
        " status 0: all is well, or was mended; 1: something is left. Reads whole tables: minutes where they are huge."
    )
    examples = """
  manage.py check_consistency
  manage.py check_consistency --fix
  manage.py check_consistency --json | jq '.[] | select(.fixed | not)'
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--fix", action="store_true", help="mend what can be mended without a decision")
        add_json(parser)

    def work(self, **options: Any) -> None:
        found = check_all(fix=options["fix"])
        if options["json"]:
            self.stdout.write(json.dumps([asdict(one) for one in found], ensure_ascii=False))
        elif not found:
            self.stdout.write(f"{len(CHECKS)} checks, nothing found")
        else:
            for one in found:
                state = "mended" if one.fixed else "--fix mends it" if one.fixable else "needs a decision"
                self.stdout.write(f"{one.check}: {one.text} ({one.count}; {state})")
                for example in one.examples:
                    self.stdout.write(f"  {example}")
        if any(not one.fixed for one in found):
            raise SystemExit(1)
