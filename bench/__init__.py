"""What batchproof costs and how exact it is, beside other libraries: ``python -m bench``."""
