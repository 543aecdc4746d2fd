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
LINT = """
\b
Examples:
  batchproof lint                                  (this folder)
  batchproof lint train.py notebooks/
  batchproof lint --diff train.py                  (what --fix would write)
  batchproof lint --select BP1,BP203 --format github src/
  batchproof lint - --stdin-filename train.py < train.py
\b
batchproof rule BP101 says what a code means; # noqa: BP101 silences it on a line.
\b
Exit status: 0 nothing found, 1 something found or a file that cannot be read,
2 could not begin.
"""
RULE = """
\b
Examples:
  batchproof rule
  batchproof rule BP101
"""
COMPARE = """
\b
Examples:
  batchproof compare train.py --batch-size 16,64,128
  batchproof compare train.py --batch-size 16,64 --seeds 5 -- --epochs 3
  batchproof compare train.py --batch-size 16,64 -- --bs {batch_size} --out /tmp/{batch_size}
  batchproof compare train.py --batch-size 16,64 --report val_loss --html comparison.html
\b
Exit status: 0 nothing is wrong, 1 a number depends on the batch size by mistake, 2 could not
tell, 130 interrupted (the runs that were done by then are shown).
"""
EXAMPLES = """
\b
Examples:
  batchproof explain loss.py:rmse --data predictions.csv
  batchproof simulate loss.py:rmse --errors t:3
  batchproof noise train.py:make --mark 32
  batchproof lint train.py
  batchproof compare train.py --batch-size 16,64,128
\b
batchproof COMMAND --help has more.
"""
RUN = """
\b
Examples:
  batchproof run train.py --epochs 3
  batchproof run -m package.train --lr 0.1
  batchproof run --live --html run.html train.py
  batchproof run --report val_loss train.py
  torchrun --nproc-per-node 2 -m batchproof.cli run train.py
\b
Options for batchproof come before SCRIPT, what follows it is the script's own.
The exit status is the script's; 2 where it could not be run at all.
"""
REPORT = """
\b
Examples:
  batchproof report
  batchproof report results.json --html run.html --png run.png
\b
Exit status: 0 all measured numbers are exact, 1 one is not, 2 none could be measured.
"""
