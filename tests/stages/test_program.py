"""A stage as a process."""

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


def outcome(body):
    program = f"import atexit, sys\nfrom stages.program import run\ndef main(*a, **o):\n{body}\n"
    program += "run('stage', main, 1, 2, three=3)\nprint('never')\n"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=PROJECT, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


def test_arguments_are_passed_on_and_output_is_whole():
    status, out, err = outcome("    sys.stdout.write(f'{a} {o}')")
    assert (status, out, err) == (0, "(1, 2) {'three': 3}", "")


def test_what_is_registered_to_happen_at_exit_happens():
    _, out, _ = outcome("    atexit.register(print, 'at exit')")
    assert out == "at exit\n"


@pytest.mark.parametrize("kind", ["ValueError", "FileNotFoundError"])
def test_what_is_wrong_is_one_line(kind):
    status, out, err = outcome(f"    raise {kind}('a.png: expected an image, got text')")
    assert (status, out, err) == (1, "", "stage: a.png: expected an image, got text\n")


@pytest.mark.parametrize(
    ("code", "status", "message"),
    [("", 0, ""), ("3", 3, ""), ("'no such set'", 1, "no such set\n")],
)
def test_an_exit_keeps_its_status_and_its_message(code, status, message):
    assert outcome(f"    sys.exit({code})") == (status, "", message)


def test_a_mistake_of_ours_shows_where_it_is():
    status, _, err = outcome("    return 1 / 0")
    assert status == 1
    assert err.startswith("Traceback")
    assert err.endswith("ZeroDivisionError: division by zero\n")
