"""Mails to customers: templates by language and kind, and the channels that carry them."""
