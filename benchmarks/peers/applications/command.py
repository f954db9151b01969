"""Calls a function of a peer's application: ``MODULE FUNCTION [NUMBER]``.

The application is imported by its name, for the names of tasks and receivers are made of it.
"""

import sys
from importlib import import_module

if __name__ == "__main__":
    module, function, *numbers = sys.argv[1:]
    getattr(import_module(f"benchmarks.peers.applications.{module}"), function)(*map(int, numbers))
