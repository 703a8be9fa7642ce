#!/bin/sh
# Build librdkafka's own performance tool as build/rdkafka_performance/rdkafka_performance. Debian ships its source as an example beside the
# library's headers; it is linked with the library that the Python package confluent-kafka brings along, of which it keeps a copy.
set -eu
here=$(dirname "$0")
place=$(pwd)/build/rdkafka_performance
library=$(python -c 'import confluent_kafka, pathlib; print(pathlib.Path(confluent_kafka.__file__).parent.with_name("confluent_kafka.libs"))')
mkdir -p "$place/src"
cp "$here/rd.h" "$place/src/rd.h"
: >"$place/src/rdtime.h"
cp -r "$library" "$place/lib"
cd "$place"
apt-get download -q librdkafka-dev || { apt-get update -q && apt-get download -q librdkafka-dev; }
dpkg -x librdkafka-dev_*.deb package
mkdir -p examples
cp package/usr/share/doc/librdkafka-dev/examples/rdkafka_performance.c examples
cc -O2 -I package/usr/include/librdkafka -I src examples/rdkafka_performance.c lib/librdkafka*.so* \
    -Wl,-rpath,'$ORIGIN/lib' -lpthread -o rdkafka_performance
