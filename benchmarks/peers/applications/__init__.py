"""One application a peer, run by the Python of the peer's environment: it may import its peer, redis and the standard library.

Each can make its tables (``prepare``) and enqueue (``load``); what it enqueues does one INCR.
"""
