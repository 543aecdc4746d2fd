"""Averages that a trainer makes in its own code: of what the script hands it, measured like a loop's.

A trainer calls the script once for each batch and averages what it gets. An adapter (`lightning.py`, `transformers.py`,
`ignite.py`) says when a pass and a batch begin, which value is added to which average with what weight, and what the
average became; `averages.py` makes of that what a loop of the script would.
"""
