"""The script, as a spawned process imports it: rewritten, under the name that ``multiprocessing`` gives it.

``multiprocessing`` runs this module as ``__mp_main__`` and takes its names for the script's.
"""

if __name__ == "__mp_main__":
    from batchproof.scripts.run.processes import VARIABLE as _variable
    from batchproof.scripts.run.session import code_for_spawned_process as _begin

    exec(_begin(globals(), __import__("os").environ[_variable]), globals())
