"""A document in, text, a page or a picture out. Knows no verb: each makes its own document."""
