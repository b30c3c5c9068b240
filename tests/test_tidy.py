"""The house rules that a machine can check."""

import ast
import re
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("billing", "worker", "scheduler", "lab", "console")
FILE_LINES = 300
FUNCTION_LINES = 40

SQL = re.compile(
    r"^\s*(?:SELECT\b|INSERT\s+INTO\b|UPDATE\s+\S+\s+SET\b|DELETE\s+FROM\b|WITH\s+\w+\s+AS\b)"
)
# Business time is a parameter; a statement that needs the machine's uses clock_timestamp().
SQL_TIME = re.compile(
    r"\bnow\s*\(\s*\)|\bCURRENT_(?:TIMESTAMP|DATE|TIME)\b|\bLOCALTIME", re.IGNORECASE
)
SQL_FILES = re.compile(r"(?:worker|scheduler|lab)/store(?:/\w+)?\.py|tests/.+")

IMPURE = frozenset(
    {
        *(
            "aiohttp",
            "aiosmtplib",
            "apscheduler",
            "asyncio",
            "asyncpg",
            "dramatiq",
            "http",
            "logging",
        ),
        *("os", "pathlib", "pika", "random", "secrets", "socket", "structlog", "subprocess"),
        *("tempfile", "threading", "time", "urllib.request"),
    }
)
CLOCK_READS = re.compile(r"(?:^|\.)(?:now|utcnow|today)$")
VAGUE = re.compile(r"(?:^|_)(?:utils?|helpers?|managers?|misc|common)(?:_|$)")

# Spelt in pieces, so that this file does not find itself.
HOSTS = ("py" + "pi.org", "python" + "hosted.org", "files." + "pythonhosted", "npm" + "js.org")
DOWNLOAD = re.compile(
    "|".join(map(re.escape, HOSTS)) + r"|https?://\S+\.(?:whl|tar\.gz|deb|zip|tgz)\b"
)
MACHINE_PATH = re.compile(r"(?<![\w./-])/(?:" + "work|farm|home/" + r"\w+|root)/[\w.-]+")


@cache
def committed() -> tuple[Path, ...]:
    """Files that are or would be committed, relative to the checkout."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode == 0:
        return tuple(Path(line) for line in listing.stdout.splitlines() if (ROOT / line).is_file())
    # A source archive has no history; what tools leave behind starts with a dot.
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    return tuple(path for path in found if not re.search(r"(?:^|/)(?:\.|__pycache__)", str(path)))


def python_files(*tops: str) -> list[Path]:
    """The committed Python files under these directories."""
    return [path for path in committed() if path.suffix == ".py" and path.parts[0] in tops]


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a committed file."""
    return ast.parse((ROOT / path).read_text())


def walk(paths: Iterable[Path]) -> Iterator[tuple[Path, ast.AST]]:
    """Every node of every file."""
    for path in paths:
        for node in ast.walk(tree(path)):
            yield path, node


def at(path: Path, node: ast.AST) -> str:
    """Where a node stands, as an editor opens it."""
    return f"{path}:{getattr(node, 'lineno', 1)}"


def strings(path: Path) -> list[tuple[ast.Constant, str]]:
    """Strings of a file, parts of f-strings included, docstrings not."""
    told = {id(node.value) for node in ast.walk(tree(path)) if isinstance(node, ast.Expr)}
    return [
        (node, node.value)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told
    ]


def test_imports_go_down_only() -> None:
    """console, lab, scheduler, worker, billing: a package imports only what stands after it."""
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0


def test_files_are_short() -> None:
    """No Python file has more than 300 lines."""
    long = {
        str(path): lines
        for path in python_files(*PACKAGES, "tests")
        if (lines := (ROOT / path).read_text().count("\n")) > FILE_LINES
    }
    assert long == {}


def test_functions_are_short() -> None:
    """No function has more than 40 lines."""
    long = [
        f"{at(path, node)} {node.name} has {length}"
        for path, node in walk(python_files(*PACKAGES, "tests"))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES
    ]
    assert long == []


def test_names_say_what_is_inside() -> None:
    """No module is called utils, helpers, manager or the like."""
    vague = [str(path) for path in python_files(*PACKAGES, "tests") if VAGUE.search(path.stem)]
    assert vague == []


def test_no_float_in_billing() -> None:
    """Money is integers: billing neither names `float` nor writes a float literal."""
    floats = [
        at(path, node)
        for path, node in walk(python_files("billing"))
        if (isinstance(node, ast.Name) and node.id == "float")
        or (isinstance(node, ast.Constant) and isinstance(node.value, float))
    ]
    assert floats == []


def test_billing_awaits_nothing() -> None:
    """The rules are pure: nothing in billing is asynchronous."""
    asynchronous = [
        at(path, node)
        for path, node in walk(python_files("billing"))
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith)
    ]
    assert asynchronous == []


def imported(node: ast.AST) -> list[str]:
    """The modules that a node imports, and the packages around them."""
    match node:
        case ast.Import(names=names):
            modules = [alias.name for alias in names]
        case ast.ImportFrom(module=str(module), names=names, level=0):
            modules = [f"{module}.{alias.name}" for alias in names]
        case _:
            modules = []
    parts = [module.split(".") for module in modules]
    return [".".join(part[:length]) for part in parts for length in range(1, len(part) + 1)]


def test_billing_reaches_nothing_outside() -> None:
    """Billing imports no module that reads the clock, the environment, chance or the network."""
    impure = [
        f"{at(path, node)} {name}"
        for path, node in walk(python_files("billing"))
        for name in imported(node)
        if name in IMPURE
    ]
    assert impure == []


def test_billing_reads_no_clock() -> None:
    """`now` is a parameter: billing calls no now(), utcnow() or today()."""
    reads = [
        at(path, node)
        for path, node in walk(python_files("billing"))
        if isinstance(node, ast.Call) and CLOCK_READS.search(ast.unparse(node.func))
    ]
    assert reads == []


def test_sql_stands_in_the_stores() -> None:
    """A string that begins like a statement stands in a store module or in a test."""
    elsewhere = [
        at(path, node)
        for path in python_files(*PACKAGES)
        if not SQL_FILES.fullmatch(path.as_posix())
        for node, text in strings(path)
        if SQL.match(text)
    ]
    assert elsewhere == []


def test_statements_do_not_read_the_clock() -> None:
    """No statement has now() or CURRENT_TIMESTAMP: business time is a parameter."""
    reads = [
        at(path, node)
        for path in python_files(*PACKAGES)
        if SQL_FILES.fullmatch(path.as_posix())
        for node, text in strings(path)
        if SQL_TIME.search(text)
    ]
    schemas = [path for path in committed() if path.suffix == ".sql"]
    reads += [str(path) for path in schemas if SQL_TIME.search(without_comments(path))]
    assert reads == []


def without_comments(path: Path) -> str:
    """An SQL file without its `--` comments and its COMMENT ON statements."""
    text = re.sub(r"--.*", "", (ROOT / path).read_text())
    return re.sub(r"COMMENT ON .*? IS '(?:[^']|'')*';", "", text, flags=re.DOTALL)


@pytest.mark.parametrize(
    ("pattern", "what"),
    [(DOWNLOAD, "a download address"), (MACHINE_PATH, "a path of one machine")],
)
def test_committed_files_name_no_place(pattern: re.Pattern[str], what: str) -> None:
    """No committed file names a registry's host, a download address or a machine's own path."""
    named = []
    for path in committed():
        try:
            text = (ROOT / path).read_text()
        except UnicodeDecodeError:
            continue
        named += [f"{path}: {match.group()}" for match in pattern.finditer(text)]
    assert named == [], what
