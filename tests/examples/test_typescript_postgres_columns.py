"""Columns are stored encrypted, and a bad row harms no other. The database is PGlite."""

import json
import re

import pytest

EXAMPLE = "typescript-postgres-columns"
BUILD_BLOCKS = 1
PATIENTS = {"Ada": "measles", "Grace": "mumps", "Mary": "café ☕"}
UNREADABLE = r"row [0-9a-f-]{36} does not open: "


@pytest.fixture(scope="module")
def built(built):
    """With an empty database, which PGlite takes seconds to make."""
    sql(built, "select 1")
    return built


@pytest.fixture
def patients(example, claviger):
    """The example, with three patients."""
    claviger.create_key("patients", "embedded")
    lines = "\n".join(json.dumps({"name": name, "diagnosis": diagnosis}) for name, diagnosis in PATIENTS.items())
    assert example.run("node", "dist/main.js", "add", input=lines) == (0, "")
    return example


def listed(example, **variables):
    code, output = example.run("node", "dist/main.js", "list", **variables)
    return code, sorted(output.splitlines())


def sql(example, statement):
    """What a statement returns, by PGlite without the program."""
    program = (
        'import { PGlite } from "@electric-sql/pglite";'
        'const database = await PGlite.create("database");'
        f"console.log(JSON.stringify((await database.query({json.dumps(statement)})).rows));"
        "await database.close();"
    )
    code, output = example.run("node", "--input-type=module", "--eval", program)
    assert code == 0, output
    return json.loads(output)


def everybody(*without):
    return sorted(f"{name}: {diagnosis}" for name, diagnosis in PATIENTS.items() if name not in without)


def test_readme(example):
    output = example.readme()
    assert re.search(r"^Ada: measles$", output, re.MULTILINE) and re.search(r"^Grace: mumps$", output, re.MULTILINE)
    assert len(re.findall(UNREADABLE + "key_disabled", output)) == 2


def test_no_value_is_stored_readable(patients):
    assert listed(patients) == (0, everybody())
    stored = sql(patients, "select wrapped, encode(name, 'escape') as name, encode(diagnosis, 'escape') as diagnosis from patients")
    assert len(stored) == 3 and len({row["wrapped"] for row in stored}) == 3
    assert not any(word in json.dumps(stored) for word in ["Ada", "measles", "Grace", "mumps", "Mary", "caf"])


@pytest.mark.parametrize(
    "change, reason, count",
    [
        ("wrapped = (select max(wrapped) from patients)", "ciphertext_rejected", 2),
        ("wrapped = 'clv1.nonsense'", "envelope_version_unsupported", 3),
        ("name = diagnosis, diagnosis = name", "its content was changed", 3),
        ("name = substr(name, 1, 20)", "its content was changed", 3),
        ("diagnosis = set_byte(diagnosis, 15, get_byte(diagnosis, 15) # 1) where id = (select min(id::text)::uuid from patients)", "its content was changed", 1),
        ("wrapped = left(wrapped, 40) where id = (select min(id::text)::uuid from patients)", "invalid_envelope", 1),
    ],
)
def test_a_bad_row_is_told_and_harms_no_other(patients, change, reason, count):
    sql(patients, f"update patients set {change}")
    code, lines = listed(patients)
    bad = [line for line in lines if re.fullmatch(UNREADABLE + reason, line)]
    assert code == 1 and len(bad) == count, lines
    assert len(set(lines) & set(everybody())) == 3 - count and len(lines) == 3


def test_more_rows_than_a_request_takes(example, claviger):
    claviger.create_key("patients", "embedded")
    lines = "\n".join(json.dumps({"name": f"patient {i}", "diagnosis": str(i)}) for i in range(1001))
    assert example.run("node", "dist/main.js", "add", input=lines) == (0, "")
    code, printed = listed(example)
    assert code == 0 and printed == sorted(f"patient {i}: {i}" for i in range(1001))


def test_a_line_that_is_no_patient_stores_none(patients):
    good = json.dumps({"name": "Rosalind", "diagnosis": "polio"})
    for line in ["Ada", '{"name": "Ada"}', '{"name": "Ada", "diagnosis": 7}', "null"]:
        code, output = patients.run("node", "dist/main.js", "add", input=f"{good}\n{line}")
        assert code == 2 and output.startswith("patients: line 2 is no patient"), line
    assert listed(patients) == (0, everybody())


def test_without_its_key_nothing_is_stored_or_read(patients, claviger):
    claviger.disable_key("patients")
    code, output = patients.run("node", "dist/main.js", "add", input='{"name": "Rosalind", "diagnosis": "polio"}')
    assert code == 2 and output.startswith("patients: ") and "Rosalind" not in output
    code, lines = listed(patients)
    assert code == 1 and len(lines) == 3 and all(re.fullmatch(UNREADABLE + "key_disabled", line) for line in lines)
    claviger.enable_key("patients")
    assert listed(patients) == (0, everybody())


def test_a_gateway_that_is_away_is_told(patients):
    code, lines = listed(patients, CLAVIGER_ADDRESS="http://127.0.0.1:1")
    assert code == 2 and any(line.startswith("patients: ") for line in lines) and not any("    at " in line for line in lines)
