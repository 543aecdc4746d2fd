"""What ``--help`` ends with."""

EXPLAIN = """
\b
Examples:
  batchproof explain loss.py:rmse --data predictions.csv
  batchproof explain loss.py:rmse                  (inputs guessed from the parameters' names)
  batchproof explain loss.py:rmse --data predictions.csv --mark 16 --html report.html
  batchproof explain torch.nn.functional:cross_entropy
  batchproof explain metrics.py:my_metric --data scores.npz --json
\b
Exit status: 0 safe, 1 depends on the batch size, 2 could not tell.
"""
SIMULATE = """
\b
Examples:
  batchproof simulate                              (the root mean square of normal errors)
  batchproof simulate loss.py:rmse --errors t:3 --batch-sizes 1,16,128,1e9
  batchproof simulate loss.py:rmse --data predictions.csv --mark 16 --html report.html
  batchproof simulate --data predictions.csv --png curve.png
\b
Exit status: 0 the same at every batch size, 1 depends on it, 2 could not tell,
130 interrupted (what was done by then is shown).
"""
NOISE = """
\b
Examples:
  batchproof noise                                 (a small linear regression)
  batchproof noise train.py:make --mark 32
  batchproof noise train.py:make --batch-sizes 8,64,512 --html noise.html --png noise.png
\b
where train.py has, for example
  def make():
      return model, torch.nn.functional.cross_entropy, DataLoader(dataset)
\b
Exit status: 0 measured, 2 could not tell, 130 interrupted (what was done by then is shown).
"""
EXAMPLES = """
\b
Examples:
  batchproof explain loss.py:rmse --data predictions.csv
  batchproof simulate loss.py:rmse --errors t:3
  batchproof noise train.py:make --mark 32
\b
batchproof COMMAND --help has more.
"""
