"""House rules that no off-the-shelf linter expresses. Fails with file:line."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("schemas", "domain", "engine", "projections", "gateway", "ops", "tests")
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 600
DOCSTRING_LINES_MAX = 10
BANNED_MODULE_NAMES = {"utils", "helpers", "common", "misc", "manager", "base", "core"}
BROAD_EXCEPT_ALLOWED = {"ops/supervisor.py", "gateway/errors.py"}
ENVIRONMENT_READER = "ops/config.py"
INTEGER_ONLY_ROOMS = {"schemas", "domain"}
UNOWNED_WORK = re.compile(r"\b(?:FIXME|TODO(?!\(\w+, #\d+\)))")
LINK = re.compile(r"\]\((?!\w+:|#)([^)\s#]+)")


def _file_violations(path: Path, source: str, module: ast.Module) -> Iterator[str]:
    if path.stem in BANNED_MODULE_NAMES:
        yield "name the module after what it holds"
    if source.count("\n") > FILE_LINES_MAX:
        yield f"file over {FILE_LINES_MAX} lines"
    docstring = ast.get_docstring(module)
    # A drawn tree of errors counts as one line: each class has its own.
    told = [line for line in (docstring or "").splitlines() if line[:1] not in ("├", "└")]
    if module.body and not 0 < len(told) <= DOCSTRING_LINES_MAX:
        yield f"open with a docstring of 1 to {DOCSTRING_LINES_MAX} lines"
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and UNOWNED_WORK.search(token.string):
            yield f"{token.start[0]}: TODO(owner, #issue), and FIXME never"


def _import_time_violations(module: ast.Module) -> Iterator[str]:
    for statement in module.body:
        match statement:
            case ast.Expr(value=ast.Call() | ast.Await()):
                yield f"{statement.lineno}: runs at import"
            case ast.For() | ast.While() | ast.With():
                yield f"{statement.lineno}: runs at import"
            case _:
                pass


def _node_violations(path: Path, node: ast.AST) -> Iterator[str]:
    where, room = path.as_posix(), path.parts[0]
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                yield f"{node.lineno}: {node.name} has {length} lines"
        case ast.ExceptHandler():
            caught = ast.unparse(node.type) if node.type else "BaseException"
            if caught in {"Exception", "BaseException"} and where not in BROAD_EXCEPT_ALLOWED:
                yield f"{node.lineno}: broad except"
        case ast.Name(id="float") | ast.Constant(value=float()) if room in INTEGER_ONLY_ROOMS:
            yield f"{node.lineno}: float where amounts are integers"
        case ast.Attribute(value=ast.Name(id="os"), attr="environ" | "getenv" as attribute):
            if room != "tests" and where != ENVIRONMENT_READER:
                yield f"{node.lineno}: os.{attribute} outside {ENVIRONMENT_READER}"
        case _:
            pass


def _bare_sleeps(module: ast.Module) -> Iterator[str]:
    # A sleep inside a loop polls a condition; anywhere else it guesses how long something takes.
    loops = [n for n in ast.walk(module) if isinstance(n, ast.While | ast.For | ast.AsyncFor)]
    polled = {id(node) for loop in loops for node in ast.walk(loop)}
    for node in ast.walk(module):
        if not isinstance(node, ast.Call) or id(node) in polled:
            continue
        if ast.unparse(node.func) in {"time.sleep", "asyncio.sleep"}:
            yield f"{node.lineno}: bare sleep; wait on a condition with a deadline"


def _violations(path: Path, source: str) -> Iterator[str]:
    module = ast.parse(source)
    found = [*_file_violations(path, source, module), *_import_time_violations(module)]
    for node in ast.walk(module):
        found.extend(_node_violations(path, node))
    if path.parts[0] == "tests":
        found.extend(_bare_sleeps(module))
    yield from (f"{path.as_posix()}:{violation}" for violation in found)


@pytest.mark.parametrize("room", ROOMS)
def test_room_keeps_the_house_rules(room: str) -> None:
    found = [
        violation
        for file in sorted((ROOT / room).rglob("*.py"))
        for violation in _violations(file.relative_to(ROOT), file.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_documents_link_to_files_that_exist() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    broken = [
        f"{document.relative_to(ROOT)}: {target}"
        for document in documents
        for target in LINK.findall(document.read_text(encoding="utf-8"))
        if not (document.parent / target).exists()
    ]
    assert documents
    assert broken == []


def test_kafka_versions_agree() -> None:
    pom = (ROOT / "ops/kafka/pom.xml").read_text(encoding="utf-8")
    compose = (ROOT / "ops/compose.yaml").read_text(encoding="utf-8")
    pinned = re.findall(r"<kafka.version>([\d.]+)</kafka.version>", pom)
    assert pinned == re.findall(r"image: apache/kafka:([\d.]+)", compose)


def _complaints(path: str, source: str) -> list[str]:
    found = _violations(Path(path), source)
    return sorted(violation.rsplit(": ", 1)[-1].removeprefix(f"{path}:") for violation in found)


def test_rules_catch_what_they_claim_to_catch() -> None:
    bad = "def f(x: float):\n    try:\n        return 0.1\n    except Exception:\n        pass\n"
    assert _complaints("domain/utils.py", bad) == [
        "broad except",
        "float where amounts are integers",
        "float where amounts are integers",
        "name the module after what it holds",
        "open with a docstring of 1 to 10 lines",
    ]


@pytest.mark.parametrize(
    ("path", "line", "complaint"),
    [
        ("engine/log.py", "os.getenv('HOME') == ''", "os.getenv outside ops/config.py"),
        ("engine/log.py", "print('hello')", "runs at import"),
        ("engine/log.py", "x = 1  # TODO later", "TODO(owner, #issue), and FIXME never"),
        (
            "tests/unit/test_log.py",
            "def f():\n    time.sleep(1)",
            "bare sleep; wait on a condition with a deadline",
        ),
    ],
)
def test_rule_catches(path: str, line: str, complaint: str) -> None:
    assert _complaints(path, f'"""What."""\n{line}\n') == [complaint]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("ops/config.py", "x = os.environ"),
        ("engine/log.py", "x = 1  # TODO(li, #12): later"),
        ("tests/unit/test_log.py", "def f():\n    while not ready():\n        time.sleep(0.01)"),
    ],
)
def test_rule_lets_pass(path: str, line: str) -> None:
    assert _complaints(path, f'"""What."""\n{line}\n') == []
