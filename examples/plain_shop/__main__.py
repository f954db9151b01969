"""Serve the shop: ``python -m examples.plain_shop [--port PORT]``."""

from argparse import ArgumentParser
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server

from examples.plain_shop import database
from examples.plain_shop.orders import application


class Server(ThreadingMixIn, WSGIServer):
    """A thread for each request."""

    daemon_threads = True


def main() -> None:
    """Serve until Ctrl-C."""
    parser = ArgumentParser()
    parser.add_argument("--port", type=int, default=8000)
    database.create_tables()
    with make_server("127.0.0.1", parser.parse_args().port, application, Server) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
