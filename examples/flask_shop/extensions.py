"""The extensions, for all modules of the shop; the factory initialises them."""

from flask_sqlalchemy import SQLAlchemy

from outbox.integrations.flask import FlaskOutbox

database = SQLAlchemy()
outbox = FlaskOutbox()
