"""A chat bot on Flask whose answers go out through the outbox. Read ``bot.py`` first, then ``receiver.py``.

``python -m examples.flask_bot`` runs it with everything around it and shows what the outbox promises: see ``show``.
"""
