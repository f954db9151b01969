"""One framework each; nothing outside a module here imports its framework."""
