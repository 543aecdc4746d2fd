"""``batchproof lint`` and ``batchproof rule``: files, settings, comments, exit statuses, and what goes wrong."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchproof.cli import main
from batchproof.scripts.lint.rules import CODES
from commands import command as run
from commands import inside, watched
from commands import refusal as fails

MEAN = """\
import torch.nn.functional as F

def evaluate(model, loader):
    total = 0.0
    for x, y in loader:
        total += F.mse_loss(model(x), y).item()
    return total / len(loader)
"""
ROOT = """\
import torch
import torch.nn.functional as F

def evaluate(model, loader):
    total = 0.0
    for x, y in loader:
        total += torch.sqrt(F.mse_loss(model(x), y)).item()
    return total / len(loader)
"""
FINE = "x = 1\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    with inside(tmp_path, monkeypatch, {"mean.py": MEAN, "root.py": ROOT, "fine.py": FINE}, columns=80) as folder:
        yield folder


def found(capsys: pytest.CaptureFixture[str], *args: str) -> list[tuple[str, str]]:
    _, out, _ = run(capsys, "lint", "--format", "json", *args)
    return [(finding["path"], finding["code"]) for finding in json.loads(out)["findings"]]


def test_exit_statuses(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert run(capsys, "lint", "fine.py")[0] == 0
    assert run(capsys, "lint", "mean.py")[0] == 1
    assert run(capsys, "lint", "mean.py", "--exit-zero")[0] == 0
    assert run(capsys, "lint", "none.py")[0] == 2
    (folder / "broken.py").write_text("def f(:")
    assert run(capsys, "lint", "broken.py")[0] == 1


def test_a_broken_file_is_reported_and_the_others_are_linted(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "broken.py").write_text("x = 1\ndef f(:")
    (folder / "binary.py").write_bytes(b"x = 1\n\xff")
    status, out, err = run(capsys, "lint", "--format", "concise", "-q")
    assert status == 1
    assert [line.split(":")[0] for line in out.splitlines()] == ["mean.py", "root.py"]
    assert err == "error: binary.py:2: it is not utf-8 text\nerror: broken.py:2: invalid syntax\n"


def test_a_bug_of_ours_is_one_line_too(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchproof.scripts.lint.check.find", lambda tree: {}["nothing"])
    status, _, err = run(capsys, "lint", "mean.py")
    assert status == 1
    assert err == "error: mean.py: batchproof itself failed on it (KeyError: 'nothing'); please report this file\n"


def test_many_files_are_read_in_several_processes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    for number in range(10):
        (folder / f"copy{number}.py").write_text(MEAN if number % 2 else ROOT)
    (folder / "broken.py").write_text("def f(:")
    one_by_one = run(capsys, "lint"), run(capsys, "lint", "--diff")
    readers = set()
    monkeypatch.setattr("batchproof.scripts.lint.files.WORTH_PROCESSES", 5)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr("batchproof.scripts.lint.one_file.lint", lambda *_: readers.add("this process"))
    assert (run(capsys, "lint"), run(capsys, "lint", "--diff")) == one_by_one
    assert readers == set()


def test_a_long_list_shows_how_far_it_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchproof.scripts.lint.files.WORTH_PROCESSES", 2)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    terminal = watched(monkeypatch)
    assert main(["lint", "-q"]) == 1
    assert "of 3 files" in terminal.getvalue()


def test_folders_are_walked_and_what_others_wrote_is_skipped(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    for name in ("pkg", ".hidden", "venv", "build", "node_modules", "mine"):
        (folder / name).mkdir()
        (folder / name / "train.py").write_text(MEAN)
    (folder / "mine" / "pyvenv.cfg").write_text("")
    (folder / "pkg" / "notes.txt").write_text(MEAN)
    assert [path for path, _ in found(capsys)] == ["mean.py", str(Path("pkg/train.py")), "root.py"]
    assert [path for path, _ in found(capsys, "venv", "pkg/notes.txt", "pkg/notes.txt")] == [
        str(Path("venv/train.py")),
        str(Path("pkg/notes.txt")),
    ]


def test_links_that_go_in_circles(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "again.py").symlink_to(folder / "mean.py")
    assert sorted(code for _, code in found(capsys)) == ["BP101", "BP201"]


def test_selecting_rules(capsys: pytest.CaptureFixture[str]) -> None:
    assert found(capsys, "--select", "BP2") == [("mean.py", "BP201")]
    assert found(capsys, "--select", "bp101,BP203") == [("root.py", "BP101")]
    assert found(capsys, "--ignore", "BP1", "--ignore", "BP201") == []
    assert found(capsys, "--select", "ALL") == found(capsys)


def test_settings(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    settings = folder / "pyproject.toml"
    settings.write_text('[tool.batchproof.lint]\nignore = ["BP2"]\n')
    assert found(capsys) == [("root.py", "BP101")]
    assert found(capsys, "--select", "BP201") == [("mean.py", "BP201")]
    settings.write_text('[tool.batchproof.lint]\nselect = ["BP2"]\n')
    assert found(capsys) == [("mean.py", "BP201")]
    assert found(capsys, "--ignore", "BP201") == []
    settings.write_text('[tool.batchproof.lint]\nexclude = ["mea*.py"]\n')
    assert found(capsys) == [("root.py", "BP101")]
    assert "(1 excluded)" in run(capsys, "lint")[1]
    settings.write_text('[tool.batchproof.lint]\n[tool.batchproof.lint.per-file-ignores]\n"root.py" = ["BP1"]\n')
    assert found(capsys) == [("mean.py", "BP201")]


def test_the_nearest_settings_hold(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[tool.batchproof.lint]\nignore = ["BP"]\n')
    inner = folder / "inner"
    inner.mkdir()
    (inner / "mean.py").write_text(MEAN)
    (inner / "pyproject.toml").write_text("[tool.black]\n")
    assert found(capsys) == []
    (inner / "pyproject.toml").write_text('[tool.batchproof.lint]\nexclude = ["old/*"]\n')
    (inner / "old").mkdir()
    (inner / "old" / "mean.py").write_text(MEAN)
    assert found(capsys) == [(str(Path("inner/mean.py")), "BP201")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("selct = []", "pyproject.toml: [tool.batchproof.lint] has no key selct; did you mean select?"),
        ('select = ["BP999"]', "pyproject.toml: select: there is no rule BP999"),
        ('ignore = ["PB101"]', "ignore: there is no rule PB101; did you mean BP101?"),
        ('select = "BP1"', "pyproject.toml: select takes a list of texts, as in [\"BP101\"], not 'BP1'"),
        ("per-file-ignores = 3", "per-file-ignores takes a table of patterns"),
        ("select = [", "pyproject.toml: "),
    ],
)
def test_settings_that_are_wrong(capsys: pytest.CaptureFixture[str], folder: Path, text: str, message: str) -> None:
    (folder / "pyproject.toml").write_text(f"[tool.batchproof.lint]\n{text}\n")
    said = fails(capsys, "lint", "mean.py")
    assert message in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["man.py"], "there is no file or folder man.py; did you mean mean.py?"),
        (["nowhere/train.py"], "there is no file or folder nowhere/train.py"),
        (["--select", "BP9"], "--select: there is no rule BP9"),
        (["--ignore", "F401"], "--ignore: there is no rule F401"),
        (["--format", "xml"], "'xml' is not one of 'text', 'concise', 'json', 'github', 'sarif'"),
        (["--output", "nowhere/report.txt"], "there is no directory nowhere"),
        (["-", "mean.py"], "- is stdin, and comes alone"),
    ],
)
def test_one_line_for_what_goes_wrong(capsys: pytest.CaptureFixture[str], args: list[str], message: str) -> None:
    said = fails(capsys, "lint", *args)
    assert message in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("comment", "codes"),
    [
        ("", ["BP201"]),
        ("# noqa", []),
        ("# NOQA:BP201", []),
        ("# noqa: BP101, BP201", []),
        ("# noqa: E501,BP2", []),
        ("# noqa: BP101", ["BP201"]),
        ("# noqa: E501", ["BP201"]),
        ("# noqaa", ["BP201"]),
        ("# why not  # noqa: BP201", []),
    ],
)
def test_comments_that_silence(
    capsys: pytest.CaptureFixture[str], folder: Path, comment: str, codes: list[str]
) -> None:
    (folder / "mean.py").write_text(MEAN.replace(".item()", f".item()  {comment}"))
    assert [code for _, code in found(capsys, "mean.py")] == codes


def test_a_comment_on_any_line_of_the_statement(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    long = MEAN.replace(
        "F.mse_loss(model(x), y)", "F.mse_loss(\n            model(x),  # noqa\n            y,\n        )"
    )
    (folder / "mean.py").write_text(long)
    assert found(capsys, "mean.py") == []
    (folder / "mean.py").write_text(MEAN.replace("    for", "    # noqa\n    for"))
    assert found(capsys, "mean.py") == [("mean.py", "BP201")]
    (folder / "mean.py").write_text(MEAN.replace(".item()", '.item(); text = "# noqa"'))
    assert found(capsys, "mean.py") == [("mean.py", "BP201")]


def test_a_comment_for_the_whole_file(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "mean.py").write_text("# batchproof: noqa\n" + MEAN)
    assert found(capsys, "mean.py") == []
    (folder / "mean.py").write_text("# batchproof: noqa: BP1\n" + MEAN)
    assert found(capsys, "mean.py") == [("mean.py", "BP201")]
    (folder / "mean.py").write_text('"""# batchproof: noqa"""\n' + MEAN)
    assert found(capsys, "mean.py") == [("mean.py", "BP201")]


def stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_stdin(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    stdin(monkeypatch, MEAN.encode())
    assert found(capsys, "-") == [("stdin.py", "BP201")]
    (folder / "pyproject.toml").write_text('[tool.batchproof.lint.per-file-ignores]\n"old.py" = ["BP2"]\n')
    stdin(monkeypatch, MEAN.encode())
    assert found(capsys, "-", "--stdin-filename", "old.py") == []
    stdin(monkeypatch, MEAN.encode())
    assert found(capsys, "-", "--stdin-filename", "new.py") == [("new.py", "BP201")]


def test_nothing_to_do(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "empty").mkdir()
    status, out, err = run(capsys, "lint", "empty")
    assert (status, out, err) == (0, "Found nothing in 0 files\n", "")


def test_output_goes_to_a_file(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    status, out, err = run(capsys, "lint", "mean.py", "--format", "sarif", "--output", "report.sarif")
    assert (status, out, err) == (1, "", "wrote report.sarif\n")
    assert json.loads((folder / "report.sarif").read_text())["version"] == "2.1.0"


def test_rule(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "rule", "bp101")
    assert status == 0
    assert out.startswith("BP101 nonlinear-metric-averaged  error\n")
    assert "How large it is" in out
    assert "#" not in out
    assert "```" not in out
    assert max(map(len, out.splitlines())) <= 80
    assert run(capsys, "rule", "nonlinear-metric-averaged")[1] == out
    assert json.loads(run(capsys, "rule", "BP101", "--json")[1])["rules"][0]["page"].startswith("Finds ")


def test_all_rules(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "rule")
    listed = [line.split()[0] for line in out.splitlines() if line.startswith("BP")]
    assert listed == [rule["code"] for rule in json.loads(run(capsys, "rule", "--json")[1])["rules"]]
    assert listed == list(CODES)
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("BP999", "there is no rule BP999"),
        ("BP1011", "there is no rule BP1011; did you mean BP101?"),
        ("nonlinear-metric", "did you mean nonlinear-metric-averaged?"),
        ("?", "there is no rule ?; batchproof rule lists them"),
    ],
)
def test_a_rule_that_there_is_not(capsys: pytest.CaptureFixture[str], code: str, message: str) -> None:
    assert message in fails(capsys, "rule", code)


def in_a_process(code: str, **environment: str) -> str:
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, **environment},
        check=False,
    )
    return done.stdout


@pytest.mark.parametrize("heavy", ["torch", "numpy", "rich", "networkx"])
def test_lint_never_imports(heavy: str) -> None:
    commands = "['lint', 'mean.py', 'root.py', '--diff'], ['lint', '--format', 'sarif'], ['rule', 'BP101']"
    loop = f"for args in {commands}: main(args)"
    code = f"import sys; from batchproof.cli import main\n{loop}\nprint({heavy!r} in sys.modules)"
    assert in_a_process(code).splitlines()[-1] == "False"


def test_a_line_break_in_a_files_name_begins_no_line_of_its_own(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "new\n::error::pwned.py"
    (folder / name).write_text(
        "import torch\ntotal = 0\nfor x, y in loader:\n    total += torch.sqrt(((x - y) ** 2).mean()).item()\n"
        "print(total / len(loader))\n"
    )
    (folder / "gone\n::error::.py").write_text("def f(:\n")
    for form in ("concise", "text"):
        _, out, err = run(capsys, "lint", ".", "--format", form)
        assert r"new\n::error::pwned.py:4:" in out
        assert r"gone\n::error::.py:1: " in err
        assert not any(line.startswith("::error") for line in [*out.splitlines(), *err.splitlines()])
