"""Servers and processes of this machine: for the service that runs on one, and for tests that have no container engine."""
