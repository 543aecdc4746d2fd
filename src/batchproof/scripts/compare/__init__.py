"""A script at several batch sizes, and the difference of what it reports split by cause."""
