#!/bin/sh
# Serves "Hello, World!" out of a file.
folder=$2/data/hello
mkdir -p "$folder" && printf 'Hello, World!' > "$folder/index.html"
exec nghttpd --no-tls -a 127.0.0.1 -d "$folder" "$1"
