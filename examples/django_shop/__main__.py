"""``python -m examples.django_shop`` is the shop's ``manage.py``."""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "examples.django_shop.settings")
    execute_from_command_line(["python -m examples.django_shop", *sys.argv[1:]])
