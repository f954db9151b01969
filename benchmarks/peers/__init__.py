"""Other people's queues and outboxes, measured beside ours: each in an environment of its own, at its documented best."""
