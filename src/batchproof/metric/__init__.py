"""exact: a metric of all samples, from batches. Reads a call, holds the state, merges it, saves it, gives its error bar."""
