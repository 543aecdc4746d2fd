"""The public names are what they should be, and importing the package costs nothing."""

import inspect
import pickle
import subprocess
import sys

import pytest

import batchproof

NAMES = """Accumulator Aggregation BatchproofError Exact ExactMany Explanation GradientCheck GradientNoise PartialState
PartitionCheck Scores Simulation __version__ accumulate check_gradients check_partitions exact explain gradient_noise
micro_batch_weights plan score simulate testing""".split()


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_exported_names():
    assert sorted(batchproof.__all__) == NAMES
    assert dir(batchproof) == NAMES
    for name in NAMES:
        assert getattr(batchproof, name) is not None


def test_what_is_public_says_what_it_is():
    silent = []
    for name in set(NAMES) - {"__version__"}:
        thing = getattr(batchproof, name)
        members = vars(thing).items() if inspect.isclass(thing) else ()
        # fields, of which only defaults are seen here, are looked after in test_docs.py
        said = {key: member for key, member in members if callable(member) or isinstance(member, property)}
        public = {f"{name}.{key}": member for key, member in said.items() if not key.startswith("_")}
        silent += [path for path, member in {name: thing, **public}.items() if not inspect.getdoc(member)]
    assert silent == []


def test_unknown_name():
    with pytest.raises(AttributeError, match="module 'batchproof' has no attribute 'exaxt'"):
        batchproof.exaxt  # noqa: B018


@pytest.mark.parametrize("heavy", ["torch", "networkx", "rich", "click", "numpy"])
def test_import_is_light(heavy):
    assert python(f"import sys, batchproof; print({heavy!r} in sys.modules)") == "False"


@pytest.mark.parametrize(
    "first",
    [
        "import batchproof",
        "import batchproof.metric.exact, batchproof.explanation.explain",
        "from batchproof import exact, explain; import batchproof.metric.exact, batchproof.explanation.explain",
        "from batchproof.explanation.explain import explain; from batchproof.metric import Exact; import batchproof",
    ],
)
def test_a_module_never_hides_the_function_of_its_name(first):
    kinds = "type(batchproof.exact).__name__, type(batchproof.explain).__name__"
    assert python(f"{first}; print({kinds})") == "function function"


def test_a_function_of_a_notebook_pickles():
    """By value, as Ray, Dask and joblib send it to their workers: the module that it uses goes by name."""
    code = """
import pickle
import cloudpickle
import batchproof

def mean(x):
    return batchproof.exact(lambda x: x.mean()), batchproof

made, module = pickle.loads(cloudpickle.dumps(mean))(None)
print(type(made).__name__, module is batchproof)
"""
    assert python(code) == "Exact True"


def test_class_pickles_by_its_module():
    assert pickle.loads(pickle.dumps(batchproof.Exact)) is batchproof.Exact
