"""A shop on ``sqlite3`` and the standard library's own web server: no framework, and no SQLAlchemy in its own code."""
