"""Channels: the ways out, and the adapters that implement them."""
