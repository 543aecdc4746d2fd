"""The gradient of all samples from micro-batches; whether a loop's is the whole batch's; how noisy one is."""
