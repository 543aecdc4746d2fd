"""Scripts as they are: where one averages over batches (source, lint), what that makes (run), and why (compare)."""
