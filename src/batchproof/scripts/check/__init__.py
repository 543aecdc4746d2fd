"""One answer about a script: its source linted, one run measured, several batch sizes compared."""
