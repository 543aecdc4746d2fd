"""A search for wrong numbers: random programs on data whose first rows mislead, by a grammar of its own.

``python -m tests.search 20000 --seed 0`` runs it in worker processes; ``test_search`` runs some hundreds.
"""
