"""What ``python -m examples.flask_bot`` does around the bot: people talk, processes are killed, an audit is held at the end."""
