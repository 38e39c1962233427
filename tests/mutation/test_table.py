"""The table of deliberate mistakes fits the code and the tests as they are; `run.py` tries them, in minutes."""

import ast
from collections import Counter

from tests.mutation.run import REPOSITORY, problem, read_table

TABLE = read_table()


def test_every_old_text_stands_once_in_its_file_and_becomes_another():
    assert [text for mutation in TABLE if (text := problem(mutation, REPOSITORY))] == []
    assert all(mutation.old != mutation.new for mutation in TABLE)
    assert [name for name, times in Counter(mutation.id for mutation in TABLE).items() if times > 1] == []


def test_every_test_that_must_fail_is_there():
    functions: dict[str, set[str]] = {}
    for file in {test.split("::")[0] for mutation in TABLE for test in mutation.tests}:
        tree = ast.parse((REPOSITORY / file).read_text())
        functions[file] = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for mutation in TABLE:
        assert mutation.tests or mutation.equivalent, mutation.id
        for test in mutation.tests:
            file, *name = test.split("::")
            assert all(n.split("[")[0] in functions[file] for n in name), f"{mutation.id}: {test}"


def test_mistakes_are_spread_over_the_rooms():
    rooms = {path.parent.name for path in (REPOSITORY / "psa_pose").glob("*/*.py")}
    assert len(TABLE) >= 150
    assert {mutation.room for mutation in TABLE} >= rooms - {"psa_pose"}
