#!/usr/bin/env python
"""Django's command line for Quartz-Flow."""

import os
import select
import sys

from quartzflow.env import EnvError


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "quartzflow.settings")
    from django.core.management import execute_from_command_line

    try:
        try:
            execute_from_command_line(sys.argv)
        finally:
            sys.stdout.flush()
    except EnvError as error:
        sys.exit(f"quartzflow: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        if not reader_is_gone():
            raise
        # As `head` ends what it has read enough of. What is still to be written must go somewhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def reader_is_gone() -> bool:
    """Whether nobody reads what we print any more; another broken pipe is an error of the command."""
    looked = select.poll()
    looked.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in looked.poll(0))


if __name__ == "__main__":
    main()
