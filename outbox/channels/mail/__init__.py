"""What the ``email`` channel is made of: accounts, addresses, letters, their MIME form, and SMTP sessions."""
